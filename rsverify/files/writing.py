"""Writes a file whole or not at all: beside its place, onto the disk, then moved there in one step."""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from rsverify.errors import InputError


def write_whole(path: Path | str, content: str | bytes, *, name: str = "file") -> None:
    """Put a text (as UTF-8) or bytes in the place of a file; a reader sees the file of before or the new one, also after a crash.

    A symbolic link at the place is replaced and never written through: whoever planted it does not choose where results go. A pipe or a
    device such as /dev/stdout is written to as it is: nothing stands there that could be lost.

    Args: name is how the caller calls the file, for the message.
    Raises: InputError where it cannot be written, e.g. a full disk; what stood there is kept.
    """
    path = Path(path)
    data = content.encode("utf-8") if isinstance(content, str) else content
    try:
        if _is_stream(path):
            path.write_bytes(data)
            return
        part = path.with_name(f".{path.name[:200]}.{secrets.token_hex(6)}.part")
        # A new file under the user's own mask; O_EXCL: one that is there already, or a link, is not ours.
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        except BaseException:
            with suppress(OSError):
                part.unlink()
            raise
        _sync_folder(path.parent)
    except OSError as error:
        raise InputError(f"{name}={str(path)!r} cannot be written ({error.strerror or error}); what stood there before is kept") from None


def _is_stream(path: Path) -> bool:
    """Whether the place is a pipe, a terminal or another device; of links only those that the system itself keeps for open files."""
    try:
        if path.is_symlink() and path.parent not in (Path("/dev"), Path("/dev/fd"), Path("/proc/self/fd")):
            return False
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) or (path.parent == Path("/dev") and path.is_symlink())


def _sync_folder(folder: Path) -> None:
    """Make the move itself durable, where a folder can be opened for that."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def writable_folder(out: Path | str, *, name: str = "out") -> Path:
    """The folder, made if need be and seen to take a file.

    Raises: InputError, before any computation.
    """
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".rsverify-{secrets.token_hex(6)}"
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        probe.unlink()
    except OSError as error:
        raise InputError(f"{name}={str(out)!r} cannot be written ({error.strerror}); give another folder with --{name}") from None
    return folder
