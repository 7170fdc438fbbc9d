"""results.json: the verdict as the contract spells it, written whole or not at all, and read back unchanged."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from rsverify.errors import InputError
from rsverify.records import SCHEMA, Provenance, Row, Verdict, from_json, to_json

_CLAIM = ("adapter", "init", "rule", "optimizer", "quantity", "statistic", "probe", "regime", "steps")
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

    Raises: InputError where the schema is another.
    """
    if data.get("schema") != SCHEMA:
        raise InputError(f"schema={data.get('schema')!r}; expected {SCHEMA!r}: the file was written by another version or is no result")
    rows = []
    for flat in data["rows"]:
        claim = {key: flat[key] for key in _CLAIM}
        full = {**flat, "claim": claim}
        full.update({name: {**flat[name], "claim": claim} for name in _WITNESSES if flat[name] is not None})
        rows.append(from_json(Row, full))
    notes = tuple(data["notes"])
    return Verdict(
        data["verdict"], data["complete"], tuple(rows), from_json(Provenance, data["provenance"]), data["question"], data["sentence"], notes
    )


def write_results(verdict: Verdict, path: Path) -> None:
    """Write the file in one move, so that an interruption leaves the last whole state."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(json.dumps(as_results(verdict), indent=1, allow_nan=False) + "\n")
    os.replace(temporary, path)


def with_command(verdict: Verdict, command: str) -> Verdict:
    """The verdict with the command that repeats it among its settings."""
    made = verdict.provenance
    return replace(verdict, provenance=replace(made, settings={**made.settings, "command": command}))


def read_results(path: Path) -> Verdict:
    """The verdict in a results.json.

    Raises: InputError where the file is missing, no JSON, or of another schema.
    """
    try:
        data = json.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(f"results={str(path)!r} does not exist; expected a folder or results.json that `rsverify verify` wrote") from None
    except ValueError as error:
        raise InputError(f"results={str(path)!r} is not JSON ({error}); was it written by verify?") from None
    return from_results(data)


def _ranks(row: dict[str, Any]) -> list[int]:
    """Every rank at which a numeric witness of the row looked."""
    found: set[int] = set()
    for name in ("estimated", "measured"):
        if row[name] is not None:
            found.update(point["rank"] for point in row[name]["curve"])
    return sorted(found)
