"""The documentation site is built as its page of installation says, without a warning and with every public name."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import rsverify

ROOT = Path(__file__).parents[2]


def test_the_site(tmp_path: Path) -> None:
    """One test, so that parallel workers do not each build the site."""
    site = tmp_path / "html"
    words = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", str(tmp_path / "trees"), str(ROOT / "docs"), str(site)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    every_public_name_has_an_entry(site)
    every_page_is_reached(site)
    nothing_is_fetched(site)


def every_public_name_has_an_entry(site: Path) -> None:
    page = (site / "reference" / "names.html").read_text(encoding="utf-8")
    for name in rsverify.__all__:
        assert f'.{name}"' in page, name


def every_page_is_reached(site: Path) -> None:
    index = (site / "index.html").read_text(encoding="utf-8")
    made_by_sphinx = {"index.html", "genindex.html", "search.html", "py-modindex.html"}
    for page in site.rglob("*.html"):
        name = page.relative_to(site).as_posix()
        if name not in made_by_sphinx and not name.startswith(("_static/", "course/")):
            assert f'href="{name}"' in index, name


def nothing_is_fetched(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert 'src="http' not in text and 'rel="stylesheet" href="http' not in text, page.name


def test_the_command_line_page_names_every_verb() -> None:
    page = (ROOT / "docs" / "reference" / "command_line.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE)) == {path.stem for path in verbs()}


def verbs() -> list[Path]:
    """A file per verb: those that define a function of their own name."""
    return [path for path in (ROOT / "rsverify" / "cli").glob("*.py") if f"\ndef {path.stem}(" in path.read_text(encoding="utf-8")]


def test_the_readme_counts_the_checks_that_there_are() -> None:
    from rsverify.conformance.registry import checks

    (said,) = re.findall(r"It runs (\d+) checks", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert int(said) == len(checks())
