"""The user's cache of compiled kernels: a file is loaded only where the user owns it and its folder, nobody else can write either, and its
content has the hash that its name tells.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import sys
from pathlib import Path

from rsverify.training.native.compiler import NoLibrary

HASH = 32
"""Hexadecimal digits of a content's SHA-256 in a file's name."""


def folder() -> Path:
    """The user's cache, made where it is not there, by its absolute path with no symbolic link in it.

    Raises: NoLibrary where it cannot be made, or others could write there.
    """
    root = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(root):  # a relative one is to be passed over, says the specification that the variable is from
        home = os.path.expanduser("~")
        if not os.path.isabs(home):
            raise NoLibrary("there is no home folder for the cache")
        root = os.path.join(home, "Library/Caches" if sys.platform == "darwin" else ".cache")
    place = Path(os.path.realpath(root)) / "rsverify"
    try:
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise NoLibrary(f"the cache folder {place} cannot be made ({error.strerror})") from None
    refuse_others(place, stat.S_ISDIR)
    return place


def refuse_others(path: Path, kind: object = stat.S_ISREG) -> None:
    """Raises: NoLibrary for what is no such file or folder itself, is not the user's own, or can be written by others."""
    try:
        at = path.lstat()
    except OSError as error:
        raise NoLibrary(f"{path} cannot be read ({error.strerror})") from None
    assert callable(kind)
    if not kind(at.st_mode):
        raise NoLibrary(f"{path} is not what belongs there, or a link")
    if hasattr(os, "geteuid") and at.st_uid != os.geteuid():
        raise NoLibrary(f"{path} belongs to another user")
    if at.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise NoLibrary(f"others can write {path}; chmod go-w would let it be used")


def find(place: Path, name: str) -> Path | None:
    """The library of that name whose content is whole; a file that is not is removed."""
    for path in sorted(place.glob(f"{name}-*.so")):
        with contextlib.suppress(NoLibrary, OSError):
            refuse_others(path)
            if path.name == _named(name, path.read_bytes()):
                return path
        with contextlib.suppress(OSError):
            path.unlink()
    return None


def keep(built: Path, place: Path, name: str) -> Path:
    """Move a library into the cache, in one piece and on the disk before it has its name: processes that start together each find a whole
    library or none.

    Raises: OSError where that cannot be done.
    """
    content = built.read_bytes()
    path, beside = place / _named(name, content), place / f".{name}-{os.getpid()}"
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o700)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    return path


def _named(name: str, content: bytes) -> str:
    return f"{name}-{hashlib.sha256(content).hexdigest()[:HASH]}.so"
