"""Reads the file of checks that are expected to fail, each with its reason."""

from __future__ import annotations

import json
from pathlib import Path

from rsverify.conformance.registry import checks
from rsverify.errors import InputError, suggest


def read_xfails(path: Path | str) -> dict[str, str]:
    """Reasons by check name, from lines `check_name: reason` (# begins a comment), or a JSON object in a file named *.json.

    Raises: InputError for a file that cannot be read, a line without a reason, a check that does not exist.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"xfails={str(path)!r} cannot be read ({getattr(error, 'strerror', None) or error})") from None
    pairs = _from_json(path, text) if path.suffix == ".json" else _from_lines(path, text)
    known = checks()
    found: dict[str, str] = {}
    for place, name, reason in pairs:
        if name not in known:
            raise InputError(f"{place}: no check is called {name!r}{suggest(name, known)}")
        if not reason:
            raise InputError(f"{place}: {name} has no reason; write e.g. '{name}: known, see issue 12'")
        if name in found:
            raise InputError(f"{place}: {name} stands twice")
        found[name] = reason
    return found


def _from_lines(path: Path, text: str) -> list[tuple[str, str, str]]:
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            name, _, reason = line.partition(":")
            found.append((f"{path.name}, line {number}", name.strip(), reason.strip()))
    return found


def _from_json(path: Path, text: str) -> list[tuple[str, str, str]]:
    try:
        data = json.loads(text)
    except ValueError as error:
        raise InputError(f"xfails={str(path)!r} is no JSON ({error})") from None
    if not isinstance(data, dict) or not all(isinstance(reason, str) for reason in data.values()):
        raise InputError(f"xfails={str(path)!r}: expected an object of check names and reasons")
    return [(path.name, str(name), reason.strip()) for name, reason in data.items()]
