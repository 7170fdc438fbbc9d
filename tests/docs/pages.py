"""Code blocks of README and docs, and how they are run: as a reader would, in one folder, page by page."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
ELSEWHERE = {"docs/howto_rule.md", "docs/howto_adapter.md"}
"""Pages that tests/testing/test_howto.py runs."""
WRITTEN_BY_MACHINE = {
    "docs/atlas.md",
    "docs/mutants.md",
    "docs/reference/names.md",
    "docs/reference/proofs.md",
    "docs/reference/reproduction.md",
}


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, the line it begins at, and what the comment before it says.

    `reason` is why it is not run here; `file` is the name under which the page tells the reader to keep it; `needs` are the extras
    without which it does not run.
    """

    language: str
    text: str
    line: int
    reason: str = ""
    file: str = ""
    needs: tuple[str, ...] = ()


def pages() -> list[Path]:
    """README and every page of the site that a person wrote."""
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [page for page in found if page.exists() and not skipped(page)]


def skipped(page: Path) -> bool:
    name = page.relative_to(ROOT).as_posix()
    return name in ELSEWHERE | WRITTEN_BY_MACHINE or "/research/" in name or "/_build/" in name or "/peft_defects/" in name


def blocks(text: str) -> list[Block]:
    """The blocks of a page; a comment before a block (`<!-- not run: reason -->`, `file: name` or `needs: extra`) speaks of it."""
    pattern = r"(?:<!-- (not run|file|needs): ([^\n]*?) -->\n)?^```(\w+)\n(.*?)^```$"
    found: list[Block] = []
    for match in re.finditer(pattern, text, flags=re.DOTALL | re.MULTILINE):
        what, said, language, body = match.groups()
        line = text[: match.start(3)].count("\n") + 2
        reason, file = (said if what == "not run" else "", said if what == "file" else "")
        needs = tuple(said.split()) if what == "needs" else ()
        found.append(Block(language, body, line, reason, file, needs))
    return found


def commands(block: Block) -> list[tuple[list[str], int]]:
    """The lines of a `sh` block as words and the exit code that the page states, 0 where it states none."""
    found: list[tuple[list[str], int]] = []
    for line in block.text.splitlines():
        words = shlex.split(line, comments=True)
        if words:
            stated = re.search(r"#.*\bexits (\d+)", line)
            found.append((words, int(stated[1]) if stated else 0))
    return found
