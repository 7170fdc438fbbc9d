"""One writer to a folder or a file: a lock that the system frees when its holder dies, whatever the platform."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rsverify.errors import InputError

LOCK = ".rsverify.lock"


class InUse(InputError):
    """Another process holds the lock."""


def lock(path: Path) -> sqlite3.Connection:
    """The lock at that path, held until it is closed: an open transaction on a file of its own.

    Raises: InUse where another process holds it; InputError where the file cannot be made.
    """
    try:
        held = sqlite3.connect(path, isolation_level=None, timeout=0)
    except sqlite3.Error as error:
        raise InputError(f"lock={str(path)!r} cannot be made ({error})") from None
    try:
        held.execute("BEGIN EXCLUSIVE")
    except sqlite3.Error as error:
        held.close()
        if "locked" in str(error):
            raise InUse(f"lock={str(path)!r} is held by another process") from None
        raise InputError(f"lock={str(path)!r} cannot be taken ({error})") from None
    return held


@contextmanager
def one_writer(folder: Path, *, name: str = "out") -> Iterator[None]:
    """The right to write into a folder, until the end of the block.

    Raises: InUse where another process has it, before anything is written.
    """
    try:
        held = lock(folder / LOCK)
    except InUse:
        raise InUse(f"{name}={str(folder)!r} is being written by another process; wait for it, or give another folder") from None
    try:
        yield
    finally:
        held.close()
