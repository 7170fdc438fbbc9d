"""What a run leaves in its folder: reproduce.json, reproduce.html, a picture for each figure; and the evidence for the paper."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rsverify.files.writing import write_whole
from rsverify.records import SCHEMA, Provenance, to_json
from rsverify.report.provenance import provenance
from rsverify.report.reproduction import reproduction_page
from rsverify.report.rooms import room_hashes
from rsverify.studies.reproduce.comparing import compare
from rsverify.studies.reproduce.plan import AGAIN, LEVEL, MARGIN, Plan
from rsverify.studies.reproduce.study import Report, Section
from rsverify.training.model.base import base_manifest
from rsverify.training.model.data import fine_tuning_text

ROOMS = (
    "rsverify/training", "rsverify/symbolic", "rsverify/definitions", "rsverify/statistics", "rsverify/expressions.py",
    "rsverify/powerlaw.py", "rsverify/studies/reproduce/figures",
    *(f"rsverify/studies/reproduce/{part}.py" for part in ("cells", "judging", "plan", "replication", "runs", "sweeping", "theory")),
)  # fmt: skip
"""The source that decides the numbers of a run; not what carries its cells, draws it or writes it."""


def notes(report: Report, *, kind: str) -> list[str]:
    """What a reader must know before the verdicts."""
    plan = report.plan
    whole = len(report.sections) > 1
    return [
        f"{'All' if whole else 'One'} of the study's figures, {kind}: {report.cells} cells, {plan.repeats} repeats of {plan.seeds} seeds"
        f" each: all of them at ranks {plan.low} and {plan.high}, {min(plan.swept, plan.seeds)} for the sweeps of learning rates,"
        f" {min(plan.few, plan.seeds)} for ranks without limit, {min(plan.beyond, plan.seeds)} for those above the width (1 where wide"
        f" ranks stand beside a claim that does not name them); {plan.steps} steps of {plan.tokens} bytes,"
        f" {report.seconds / 60:.0f} core minutes.",
        "The model is this package's pretrained base of width 128 (757k parameters), fine-tuned on source code: what holds here need not"
        " hold at 7B. The source's exact setting (batch, alpha, sequence length, steps) could not be read. Ranks above 128 exceed the"
        ' widths: there only the effective learning rate grows, so "more rank buys quality" is judged between ranks'
        f" {plan.low} and {plan.high} (at most d/2).",
        f"Each question is answered by Student's intervals at {LEVEL:.0%} over the seeds of one repeat, paired on data and seed; all"
        f" repeats must give the same answer, and a fresh run must be expected to give it again with probability {AGAIN:.0%} (reckoned"
        " from the spread between seeds, and shown); otherwise it is open. Losses count as equal within"
        f" {MARGIN:.4f} nats, the gap between the two perplexities (1.863 and 1.836) that the source reports as worse and better.",
    ]


def made(plan: Plan) -> Provenance:
    """How a run came about."""
    hashes = {"checkpoint": base_manifest()["sha256"], "text": fine_tuning_text().sha256, **room_hashes(ROOMS)}
    return provenance(seed=plan.seed, hashes=hashes, settings=plan.to_dict())


def plain(section: Section) -> dict[str, Any]:
    """A section as JSON data, its picture left out."""
    figure, finding = section.figure, section.finding
    return {
        "name": figure.name, "title": figure.title, "claim": figure.claim, "source": figure.source, "answer": finding.answer,
        "sentence": finding.sentence, "foretold": list(section.foretold.sentences), "foretold_numbers": to_json(section.foretold.numbers),
        "cells": section.cells, "parts": [_finite(to_json(part)) for part in finding.parts], "tables": [to_json(t) for t in finding.tables],
        "numbers": _finite(to_json(finding.numbers)),
    }  # fmt: skip


def as_json(report: Report, *, kind: str) -> dict[str, Any]:
    """reproduce.json."""
    return {
        "schema": SCHEMA, "complete": True, "verdict": report.verdict, "kind": kind, "notes": notes(report, kind=kind),
        "provenance": to_json(made(report.plan)), "cells": report.cells, "core_seconds": round(report.seconds, 1),
        "figures": [plain(section) for section in report.sections],
    }  # fmt: skip


def write(report: Report, out: Path, *, kind: str, command: str, earlier: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Write the folder; each file in one move. `earlier` is the record of a run on other seeds that this one is set against."""
    data = as_json(report, kind=kind)
    if earlier is not None:
        data["against"] = compare(earlier, data).to_dict()
    pictures = {section.figure.name: section.picture for section in report.sections}
    page = reproduction_page(
        data["figures"],
        pictures=pictures,
        notes=data["notes"],
        provenance=made(report.plan),
        repeats=report.plan.repeats,
        command=command,
        against=data.get("against"),
    )
    for name, picture in pictures.items():
        write_whole(out / f"{name}.svg", picture)
    write_whole(out / "reproduce.json", json.dumps(data, indent=1, allow_nan=False) + "\n")
    write_whole(out / "reproduce.html", page)
    return data


def _finite(value: Any) -> Any:
    """Numbers that JSON has no word for, as text (an unbounded region) or None (not a number)."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value
