"""Reads files that come from outside: ordinary files alone, up to a size, as text or JSON, each refusal naming the file."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from rsverify.errors import InputError

LIMIT = 64 * 2**20
"""Bytes of a result, a config or a list: a hundred times the largest that we write."""

TEXT_LIMIT = 2**30
"""Bytes of a text to train or measure on."""

_KINDS = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"))


def read_bytes(path: Path | str, *, name: str, expected: str, limit: int = LIMIT) -> bytes:
    """The content of an ordinary file.

    Args: name is how the caller calls the file, expected what should stand there, both for the message; limit in bytes.
    Raises: InputError for a file that is missing, unreadable, larger than the limit, or a folder, pipe or device, which may never end.
    """
    place = f"{name}={str(path)!r}"
    try:
        # Without O_NONBLOCK opening a pipe would wait for its writer.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError as error:
        raise InputError(f"{place} cannot be read ({error.strerror}); expected {expected}") from None
    except ValueError as error:  # a null byte
        raise InputError(f"{place} is no path ({error}); expected {expected}") from None
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        kind = next((words for is_kind, words in _KINDS if is_kind(mode)), "a device")
        raise InputError(f"{place} is {kind}; expected {expected}")
    with os.fdopen(descriptor, "rb") as file:
        try:
            content = file.read(limit + 1)
        except OSError as error:
            raise InputError(f"{place} cannot be read ({error.strerror}); expected {expected}") from None
    if len(content) > limit:
        raise InputError(f"{place} is larger than {limit:,} bytes; expected {expected}")
    return content


def read_text(path: Path | str, *, name: str, expected: str, limit: int = LIMIT) -> str:
    """The content of an ordinary file as UTF-8 text.

    Raises: InputError as `read_bytes`, and for other encodings, naming the first byte that is none of UTF-8.
    """
    content = read_bytes(path, name=name, expected=expected, limit=limit)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        byte = content[error.start]
        raise InputError(f"{name}={str(path)!r} is not UTF-8 (byte {byte:#04x} at {error.start}); expected {expected}") from None


def read_json(path: Path | str, *, name: str, expected: str, limit: int = LIMIT) -> Any:
    """The data of a JSON file.

    Raises: InputError as `read_text`, and where it is not JSON, is nested too deep, or gives a key of one object twice.
    """
    text = read_text(path, name=name, expected=expected, limit=limit)
    place = f"{name}={str(path)!r}"
    try:
        return json.loads(text, object_pairs_hook=_distinct)
    except RecursionError:
        raise InputError(f"{place} is nested too deep; expected {expected}") from None
    except ValueError as error:
        raise InputError(f"{place} is not JSON ({error}); expected {expected}") from None


def read_object(path: Path | str, *, name: str, expected: str, limit: int = LIMIT) -> dict[str, Any]:
    """The JSON object of a file.

    Raises: InputError as `read_json`, and for JSON that is no object.
    """
    data = read_json(path, name=name, expected=expected, limit=limit)
    if not isinstance(data, dict):
        raise InputError(f"{name}={str(path)!r} holds a {type(data).__name__}; expected {expected}")
    return data


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys are distinct: of two values JSON keeps the last, and nobody would know."""
    data = dict(pairs)
    if len(data) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"{next(key for key in keys if keys.count(key) > 1)!r} is given twice")
    return data
