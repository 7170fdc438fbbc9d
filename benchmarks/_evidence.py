"""What a benchmark leaves behind: its numbers, what was promised, and how they were made, as one JSON file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rsverify.records import to_json
from rsverify.report.provenance import provenance
from rsverify.report.rooms import room_hashes

FOLDER = Path(__file__).parent / "evidence"

_SIMULATION = (
    "rsverify/montecarlo", "rsverify/definitions", "rsverify/statistics", "rsverify/expressions.py", "rsverify/powerlaw.py",
)  # fmt: skip
ROOMS = {
    "adversary": (
        "benchmarks/adversary.py", "benchmarks/_autograd.py", "benchmarks/_random_cases.py", "rsverify/symbolic", *_SIMULATION,
    ),
    "calibration": ("benchmarks/calibration.py", *_SIMULATION),
    "derive_matrix": (
        "benchmarks/derive_matrix.py", "rsverify/symbolic", "rsverify/definitions", "rsverify/expressions.py", "rsverify/powerlaw.py",
    ),
    "every_adapter": (
        "benchmarks/every_adapter.py", "rsverify/symbolic", "rsverify/training", "rsverify/studies/verify.py",
        "rsverify/studies/simulation.py", "rsverify/verdict.py", *_SIMULATION,
    ),
    "estimate": ("benchmarks/estimate.py", *_SIMULATION),
    "montecarlo": ("benchmarks/montecarlo.py", *_SIMULATION),
    "training": ("benchmarks/training.py", "rsverify/training", "rsverify/definitions", "rsverify/interop/transformers.py"),
    "waiting": ("benchmarks/waiting.py", "rsverify"),
    "peft_defects": ("benchmarks/peft_defects.py", "docs/peft_defects", "rsverify/conformance", "rsverify/interop/peft"),
    "conformance_false_alarms": (
        "benchmarks/conformance_false_alarms.py", "rsverify/conformance", "rsverify/testing/strategies.py", "rsverify/symbolic",
        *_SIMULATION,
    ),
}  # fmt: skip
"""The source that decides the numbers of each benchmark, by the name of its file of evidence or what that begins with."""


def rooms(name: str) -> dict[str, str]:
    """The hashes of a benchmark's rooms as they are now, for its provenance."""
    return room_hashes(ROOMS[name.partition("-")[0]])


def write(name: str, lines: list[dict[str, Any]], *, seed: int = 0, **settings: Any) -> bool:
    """Print each line with its promise, write them all, and say whether every promise is kept."""
    for line in lines:
        print(f"{'kept  ' if line['kept'] else 'BROKEN'}  {line['what']}: {line['value']}  (asked: {line['asked']})")
    FOLDER.mkdir(exist_ok=True)
    made = to_json(provenance(seed=seed, hashes=rooms(name), settings=settings))
    (FOLDER / f"{name}.json").write_text(json.dumps({"lines": lines, "provenance": made}, indent=1) + "\n", encoding="utf-8")
    return all(line["kept"] for line in lines)


def line(what: str, value: Any, asked: str, kept: bool) -> dict[str, Any]:
    return {"what": what, "value": value, "asked": asked, "kept": bool(kept)}
