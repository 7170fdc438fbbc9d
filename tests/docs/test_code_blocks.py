"""What README and docs print runs: python blocks of a page in one namespace, `rsverify ...` lines with their stated exit code."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from pages import ROOT, Block, blocks, commands, pages

from rsverify.cli import main

PAGES = [page for page in pages() if any(block.language in {"python", "sh", "json"} for block in blocks(page.read_text(encoding="utf-8")))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_page_runs_as_printed(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))  # a page's own files are modules to the commands that follow
    run_blocks(blocks(page.read_text(encoding="utf-8")), tmp_path, page.name)
    capfd.readouterr()


IMPORTED = {"peft": ("peft",), "realmodel": ("transformers",), "proofs": ("z3", "flint"), "distributed": ("dask", "distributed")}
"""What an extra brings, by the names under which it is imported."""
FIRST = (ROOT / "README.md", ROOT / "docs" / "tour.md")
"""The pages that a new user follows with nothing installed but the core."""


@pytest.mark.parametrize("page", FIRST, ids=lambda page: page.name)
def test_the_first_pages_run_with_the_core_alone(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Commands of a block that names no extra, with the extras' libraries made unimportable; the test above runs all of them."""
    monkeypatch.chdir(tmp_path)
    for names in IMPORTED.values():
        for name in names:
            monkeypatch.setitem(sys.modules, name, None)
    ran = 0
    for block in blocks(page.read_text(encoding="utf-8")):
        if block.language != "sh" or block.reason or block.needs:
            continue
        for words, stated in commands(block):
            if words[1] in {"check", "prove", "budget", "parity"}:  # the verbs that reach for an extra
                with pytest.raises(SystemExit) as ended:
                    main(words[1:])
                assert ended.value.code == stated, f"{page.name}, line {block.line}: {' '.join(words)}: {capfd.readouterr().err}"
                ran += 1
    assert ran


def run_blocks(found: list[Block], folder: Path, page: str) -> None:
    """In the page's order; a python block that names a file becomes a module there, the others share one namespace."""
    namespace: dict[str, object] = {}
    for block in found:
        where = f"{page}, line {block.line}"
        if block.reason:
            continue
        if block.file:
            (folder / block.file).write_text(block.text, encoding="utf-8")
        if block.language == "python":
            source = folder / (block.file or f"block_{block.line}.py")
            source.write_text(block.text, encoding="utf-8")
            namespace = {**runpy.run_path(str(source), init_globals=namespace)}
            run_tests(namespace, set(block.text.split()))
        elif block.language == "sh":
            for words, stated in commands(block):
                assert words[0] == "rsverify", f"{where}: {words[0]} is not run here; say why in a comment before the block"
                with pytest.raises(SystemExit) as ended:
                    main(words[1:])
                assert ended.value.code == stated, f"{where}: {' '.join(words)} exits with {ended.value.code}, the page says {stated}"


def run_tests(namespace: dict[str, object], words: set[str]) -> None:
    """Tests that a block defines are run where they need nothing of pytest; parametrized ones are by the pages' own commands."""
    for name, value in namespace.items():
        if name.startswith("test_") and f"{name}():" in words and callable(value):
            value()


def test_every_reason_says_something() -> None:
    for page in PAGES:
        for block in blocks(page.read_text(encoding="utf-8")):
            assert not block.reason or len(block.reason) > 10, f"{page.name}, line {block.line}: {block.reason!r} is no reason"


@pytest.mark.parametrize(
    "text",
    [
        "```python\nassert 1 == 2\n```\n",
        "```sh\nrsverify derive lora --rule 'alpha/x'\n```\n",
        "```sh\nrsverify --version  # exits 1\n```\n",
        "```sh\npip install rsverify\n```\n",
        "```python\nx = 1\n```\ntext\n```python\nassert x == 2\n```\n",
    ],
)
def test_a_wrong_page_fails(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutants of this test: a false assertion, an undeclared failure, a false exit code, a line that is not ours, a later block."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        run_blocks(blocks(text), tmp_path, "wrong.md")


def test_comments_are_read() -> None:
    text = "<!-- not run: needs a model of yours -->\n```sh\nx\n```\n\n<!-- file: a.json -->\n```json\n{}\n```\n"
    (skipped, kept, extra) = blocks(text + "<!-- needs: peft proofs -->\n```sh\ny\n```\n")
    assert extra.needs == ("peft", "proofs") and not extra.reason
    assert skipped.reason == "needs a model of yours" and kept.file == "a.json" and kept.text == "{}\n"
