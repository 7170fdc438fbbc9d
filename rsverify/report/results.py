"""results.json: the verdict as the contract spells it, written whole or not at all, and read back unchanged."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rsverify.errors import InputError, brief
from rsverify.files.reading import read_object
from rsverify.files.writing import write_whole
from rsverify.records import SCHEMA, Verdict, from_json, to_json

_CLAIM = ("adapter", "init", "rule", "optimizer", "quantity", "statistic", "probe", "regime", "steps")
_HEAD = ("schema", "complete", "verdict", "question", "sentence", "notes", "provenance")
CHECKSUM = "checksum"
_WITNESSES = ("predicted", "estimated", "measured")


def as_results(verdict: Verdict) -> dict[str, Any]:
    """The contract's form: each row flat, its claim's fields first, each witness without a copy of the claim."""
    data = to_json(verdict)
    rows = []
    for row in data["rows"]:
        flat = {key: row["claim"][key] for key in _CLAIM}
        flat["ranks"] = _ranks(row)
        flat.update({key: value for key, value in row.items() if key != "claim"})
        for name in _WITNESSES:
            if flat[name] is not None:
                flat[name] = {key: value for key, value in flat[name].items() if key != "claim"}
        rows.append(flat)
    head = {"schema": SCHEMA, "complete": data["complete"], "verdict": data["verdict"], "question": data["question"]}
    return {**head, "sentence": data["sentence"], "notes": data["notes"], "provenance": data["provenance"], "rows": rows}


def from_results(data: dict[str, Any]) -> Verdict:
    """The verdict that `as_results` wrote.

    Raises: InputError where the schema is another, a field is missing, unknown or of another type, or the checksum is not that of the
    content: each by its place.
    """
    if data.get("schema") != SCHEMA:
        raise InputError(
            f"schema={brief(data.get('schema'))}; expected {SCHEMA!r}: the file was written by another version or is no result"
        )
    unknown = next((key for key in data if key not in (*_HEAD, "rows", CHECKSUM)), None)
    if unknown is not None:
        raise InputError(f"{unknown} is no part of a result; expected {', '.join((*_HEAD, 'rows'))}")
    missing = next((key for key in (*_HEAD, "rows") if key not in data), None)
    if missing is not None:
        raise InputError(f"{missing} is missing: the file is no whole result")
    if CHECKSUM in data and data[CHECKSUM] != checksum(data):
        raise InputError(
            f"{CHECKSUM}={brief(data[CHECKSUM])} is not that of the content: the file was changed or damaged since it was written"
        )
    rows = data["rows"]
    if not isinstance(rows, list):
        raise InputError(f"rows is a {type(rows).__name__}; expected a list")
    full = {key: data[key] for key in _HEAD if key != "schema"} | {"rows": [_full(row, f"rows[{i}]") for i, row in enumerate(rows)]}
    return from_json(Verdict, full, place="results")


def _full(flat: Any, place: str) -> dict[str, Any]:
    """A row as its record has it: the claim by itself and with each witness."""
    if not isinstance(flat, dict):
        raise InputError(f"{place} is a {type(flat).__name__}; expected an object")
    missing = next((key for key in (*_CLAIM, *_WITNESSES) if key not in flat), None)
    if missing is not None:
        raise InputError(f"{place}.{missing} is missing")
    claim = {key: flat[key] for key in _CLAIM}
    row = {key: value for key, value in flat.items() if key not in (*_CLAIM, "ranks")} | {"claim": claim}
    return row | {name: {**flat[name], "claim": claim} for name in _WITNESSES if isinstance(flat[name], dict)}


def checksum(data: Mapping[str, Any]) -> str:
    """SHA-256 of a result's content as canonical JSON, without the checksum itself."""
    content = {key: value for key, value in data.items() if key != CHECKSUM}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def write_results(verdict: Verdict, path: Path) -> None:
    """Write the file in one move, so that an interruption leaves the last whole state; with the checksum of its content.

    Raises: InputError where it cannot be written.
    """
    data = as_results(verdict)
    write_whole(path, json.dumps({**data, CHECKSUM: checksum(data)}, indent=1, allow_nan=False) + "\n", name="results")


def with_command(verdict: Verdict, command: str) -> Verdict:
    """The verdict with the command that repeats it among its settings."""
    made = verdict.provenance
    return replace(verdict, provenance=replace(made, settings={**made.settings, "command": command}))


def read_results(path: Path) -> Verdict:
    """The verdict in a results.json.

    Raises: InputError where the file is missing, no JSON, of another schema, or damaged.
    """
    expected = "a folder or results.json that `rsverify verify` wrote"
    data = read_object(path, name="results", expected=expected)
    try:
        return from_results(data)
    except InputError as error:
        raise InputError(f"results={str(path)!r}: {error}") from None


def _ranks(row: dict[str, Any]) -> list[int]:
    """Every rank at which a numeric witness of the row looked."""
    found: set[int] = set()
    for name in ("estimated", "measured"):
        if row[name] is not None:
            found.update(point["rank"] for point in row[name]["curve"])
    return sorted(found)
