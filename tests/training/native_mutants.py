"""Kernels that are wrong in a chosen place: all mutants in one library, told apart by a number at run time, so that it is compiled once.

A mutant is a file, a text in it with the part that is changed between « and », and what stands there instead: expressions both.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from rsverify.training.native import compiler

Mutant = tuple[str, str, str]
FLAGS = ["-O1", *compiler.FLAGS[1:]]


def mutated(mutants: Mapping[str, Mutant], sources: Path) -> dict[str, str]:
    """The sources with every mutant in them, asleep."""
    texts = {path.name: path.read_text() for path in sources.glob("*.[ch]")}
    for number, (file, text, wrong) in enumerate(mutants.values(), start=1):
        before, mark, rest = text.partition("«") if "«" in text else ("", "«", text + "»")
        right, end, after = rest.partition("»")
        assert mark and end and before + right + after in texts[file], f"{file} has no {before + right + after!r}"
        texts[file] = texts[file].replace(before + right + after, f"{before}(rsv_mutant == {number} ? ({wrong}) : ({right})){after}")
    return texts


def compiled(mutants: Mapping[str, Mutant], factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The library of all mutants in double; compiled once, whatever the number of pytest's processes."""
    base = factory.getbasetemp()
    folder = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "mutants"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        built = folder / "mutants.so"
        if not built.exists():
            for name, text in mutated(mutants, compiler.HERE).items():
                (folder / name).write_text(text)
            (folder / "mutant.h").write_text("extern int rsv_mutant;\n")
            (folder / "all.c").write_text('#include "kernels.c"\nint rsv_mutant;\n')
            by = compiler.compilers(None)[0]
            given = ["-march=native", "-DREAL=double", "-include", str(folder / "mutant.h"), str(folder / "all.c"), "-lm"]
            compiler.run([by, *FLAGS, *given, "-o", str(folder / "part.so")], seconds=10 * compiler.SECONDS)
            (folder / "part.so").rename(built)
    return ctypes.CDLL(str(built))
