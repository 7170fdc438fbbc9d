"""Text that is found on every machine: English to pretrain on, source code to fine-tune on.

Nothing is fetched. The content follows the installed versions, so every corpus carries its hash and every result that
used it records that hash.
"""

from __future__ import annotations

import ast
import hashlib
import io
import sysconfig
import textwrap
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HELD_OUT_SHARE = 0.05
"""The last twentieth of a corpus is never trained on."""

_NOT_ENGLISH = {"test", "tests", "idlelib", "lib2to3", "site-packages", "dist-packages", "__pycache__", "pydoc_data", "turtledemo"}


@dataclass(frozen=True)
class Corpus:
    """A named text as bytes, its last part held out.

    Shapes: `train` and `held_out` are byte strings; the hash is that of their concatenation (SHA-256).
    """

    name: str
    train: bytes
    held_out: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.train + self.held_out).hexdigest()

    @classmethod
    def from_text(cls, name: str, text: str) -> Corpus:
        data = text.encode("utf-8")
        cut = len(data) - int(len(data) * HELD_OUT_SHARE)
        return cls(name, data[:cut], data[cut:])


def english() -> Corpus:
    """Help topics of the language, then the docstrings of the standard library in the order of its files.

    The help topics contain each other, and docstrings are copied from class to class: a paragraph seen before is
    dropped, so that what is held out has not been trained on.
    """
    seen: set[str] = set()
    kept: list[str] = []
    for text in _topics_and_docstrings():
        fresh = [paragraph for paragraph in text.split("\n\n") if paragraph.strip() and paragraph.strip() not in seen]
        seen.update(paragraph.strip() for paragraph in fresh)
        if fresh:
            kept.append("\n\n".join(fresh))
    return Corpus.from_text("english", "\n\n".join(kept))


def source(package: str = "sympy", limit: int = 2_000_000) -> Corpus:
    """Source of an installed package, docstrings and comments stripped: another distribution than `english`.

    Args: limit is the number of characters after which no further file is read.
    """
    import importlib.util

    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise LookupError(f"package={package!r} is not installed as a package with source files")
    root = Path(spec.submodule_search_locations[0])
    pieces: list[str] = []
    total = 0
    for path in _python_files(root, skip={"tests", "__pycache__", "benchmarks"}):
        stripped = strip_source(path.read_text(encoding="utf-8", errors="replace"))
        if stripped is None:
            continue
        pieces.append(stripped)
        total += len(stripped)
        if total > limit:
            break
    return Corpus.from_text(f"{package}-source", "\n".join(pieces))


def strip_source(code: str) -> str | None:
    """The code without comments, docstrings and blank lines; None where it does not tokenize."""
    try:
        docstrings = list(_docstrings(ast.parse(code)))
        comments = {token.start for token in tokenize.generate_tokens(io.StringIO(code).readline) if token.type == tokenize.COMMENT}
    except (SyntaxError, tokenize.TokenError, ValueError):
        return None
    lines = code.split("\n")
    for row, column in comments:
        lines[row - 1] = lines[row - 1][:column]
    for node in docstrings:
        first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
        # Columns of ast count bytes. What shares a line with a docstring is code: "def f(): 'doc'".
        before = lines[first].encode()[: node.col_offset].decode()
        after = lines[last].encode()[node.end_col_offset :].decode().lstrip(" ;")
        lines[first : last + 1] = [before + after] + [""] * (last - first)
    return "\n".join(line.rstrip() for line in lines if line.strip())


def _docstrings(tree: ast.Module) -> Iterator[ast.Expr]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
                yield first


def _topics_and_docstrings() -> Iterator[str]:
    from pydoc_data.topics import topics

    for name in sorted(topics):
        yield topics[name].strip()
    for path in _python_files(Path(sysconfig.get_paths()["stdlib"]), skip=_NOT_ENGLISH):
        try:
            tree = ast.parse(path.read_text(encoding="utf-8", errors="replace"))
        except (SyntaxError, ValueError):
            continue
        documented = ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef
        for node in ast.walk(tree):
            if isinstance(node, documented) and (text := ast.get_docstring(node)):
                yield textwrap.dedent(text).strip()


def _python_files(root: Path, skip: set[str]) -> Iterator[Path]:
    for path in sorted(root.rglob("*.py")):
        if not skip.intersection(path.relative_to(root).parts):
            yield path
