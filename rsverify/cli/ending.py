"""How a command ends: its exit code, and what it says where it ends without an answer. A crash is never a verdict."""

from __future__ import annotations

import shlex
import sys
import traceback
from collections.abc import Sequence

from rsverify.errors import RsverifyError

USAGE, FAULT, INTERRUPTED = 2, 4, 130
"""Beside the codes of a verdict (0 holds, 1 does not hold, 3 inconclusive): bad usage or input, a fault of ours, interrupted."""

DEBUG = "--debug"
"""Shows the traceback of whatever ended a command; every verb takes it."""


def ended_by(error: BaseException, tokens: Sequence[str]) -> int:
    """Say on stderr why a command ended, and give its exit code.

    Args: tokens are the command's words as they were typed, without the program.
    """
    if DEBUG in tokens:
        traceback.print_exception(error)
    if isinstance(error, KeyboardInterrupt):
        complain("interrupted; what was finished is kept")
        return INTERRUPTED
    if isinstance(error, BrokenPipeError):  # whoever read our output had enough
        return 0
    if isinstance(error, RsverifyError):
        complain(str(error))
        return USAGE
    if (reason := _of_the_machine(error)) is not None:
        complain(reason)
        return USAGE
    doing = " ".join(word for word in tokens[:1] if not word.startswith("-")) or "the command line"
    words = "the recursion limit was reached" if isinstance(error, RecursionError) else f"{type(error).__name__}: {_line(str(error))}"
    complain(f"{doing} stopped: {words}")
    complain("this is a fault of rsverify and no verdict: nothing is said of the adapter; what was finished before is kept")
    command = shlex.join(["rsverify", *(word for word in tokens if word != DEBUG), DEBUG])
    complain(f"to report it, run it again with {DEBUG} and send command and traceback: {_line(command, 200)}")
    return FAULT


def complain(message: str) -> None:
    """A line on stderr."""
    print(f"rsverify: {message}", file=sys.stderr)


def _of_the_machine(error: BaseException) -> str | None:
    """What the machine could not give, in words; None where it is no matter of the machine."""
    kinds = {f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__}
    if isinstance(error, MemoryError) or kinds & {
        "torch.OutOfMemoryError",
        "torch.cuda.OutOfMemoryError",
        "numpy._core._exceptions._ArrayMemoryError",
    }:
        return (
            f"out of memory ({_line(str(error)) or 'no more could be had'}); ask for fewer or smaller ranks, or fewer workers; no verdict"
        )
    if "concurrent.futures.process.BrokenProcessPool" in kinds or "concurrent.futures.process.BrokenExecutor" in kinds:
        return (
            "a worker process was killed, most often by the system for want of memory; start again with fewer --workers (what was"
            " finished is kept); no verdict"
        )
    return None


def _line(text: str, limit: int = 300) -> str:
    """A text as one line without control characters."""
    line = "".join(character if character.isprintable() else " " for character in text).strip()
    return line if len(line) <= limit else line[: limit - 3] + "..."
