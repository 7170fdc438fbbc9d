"""The documentation site is built as its page of installation says, without a warning and with every public name."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import rsverify

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", str(out / "trees"), str(ROOT / "docs"), str(out / "html")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return out / "html"


def test_every_public_name_has_an_entry(site: Path) -> None:
    page = (site / "reference" / "names.html").read_text(encoding="utf-8")
    for name in rsverify.__all__:
        assert f'.{name}"' in page, name


def test_every_page_is_reached(site: Path) -> None:
    index = (site / "index.html").read_text(encoding="utf-8")
    made_by_sphinx = {"index.html", "genindex.html", "search.html", "py-modindex.html"}
    for page in site.rglob("*.html"):
        name = page.relative_to(site).as_posix()
        if name not in made_by_sphinx and not name.startswith(("_static/", "course/")):
            assert f'href="{name}"' in index, name


def test_nothing_is_fetched(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert 'src="http' not in text and 'rel="stylesheet" href="http' not in text, page.name


def test_the_command_line_page_names_every_verb() -> None:
    page = (ROOT / "docs" / "reference" / "command_line.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE)) == {path.stem for path in verbs()}


def verbs() -> list[Path]:
    """A file per verb: those that define a function of their own name."""
    return [path for path in (ROOT / "rsverify" / "cli").glob("*.py") if f"\ndef {path.stem}(" in path.read_text(encoding="utf-8")]
