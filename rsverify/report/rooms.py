"""Which source a result was computed by: a hash of each room, so that a reader can tell whether the result still speaks of this code."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from rsverify.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
"""The folder that holds the package: the checkout, or site-packages."""
KINDS = (".py", ".json", ".c", ".h")
"""The files of a room that are its source. Weights are not among them: their hash stands in a .json beside them."""
PREFIX = "room "
"""What the name of a room's hash begins with among the hashes of a provenance."""


def hash_of(files: Iterable[tuple[str, bytes]]) -> str:
    """One hash of named files: the same in any order, for any time of change and either end of line; 16 hexadecimal digits."""
    whole = hashlib.sha256()
    for name, content in sorted(files):
        text = content.replace(b"\r\n", b"\n")
        whole.update(f"{name}\n{len(text)}\n".encode())
        whole.update(text)
    return whole.hexdigest()[:16]


def room_hash(room: str, *, root: Path = ROOT) -> str:
    """The hash of a room: every file of `KINDS` below the folder, or the one file, that `room` names from the root.

    Raises: InputError where there is no such room, or nothing in it to hash.
    """
    place = root / room
    found = [place] if place.is_file() else [path for path in place.rglob("*") if path.suffix in KINDS and path.is_file()]
    if not found:
        raise InputError(
            f"room={room!r} has no source below {root.name}/; expected a folder or file of the project such as 'rsverify/training'"
            " (was it moved or renamed? then name it anew where the result's rooms are listed)"
        )
    return hash_of((path.relative_to(root).as_posix(), path.read_bytes()) for path in found)


def room_hashes(rooms: Iterable[str], *, root: Path = ROOT) -> dict[str, str]:
    """For a provenance: the hash of each room under its name with the prefix `room `."""
    return {PREFIX + room: room_hash(room, root=root) for room in rooms}


def recorded(hashes: Mapping[str, str]) -> dict[str, str]:
    """The hashes of rooms by room, out of all hashes of a provenance."""
    return {name.removeprefix(PREFIX): value for name, value in hashes.items() if name.startswith(PREFIX)}
