"""The verdict as one HTML file that stands alone: verdict first, pictures, numbers, how it was made, how to repeat it."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import jinja2

from rsverify.records import Row, Verdict
from rsverify.report.words import OUTCOME_WORDS, consequences, exponent_text, measured_text, predicted_text


def write_page(verdict: Verdict, path: Path, *, command: str) -> None:
    """Write report.html; `command` is what repeats the run."""
    path.write_text(page(verdict, command=command), encoding="utf-8")


def page(verdict: Verdict, *, command: str) -> str:
    """The HTML text: no script, no network, readable on a phone and in print."""
    from rsverify.report.figures import curves

    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True).from_string(
        files("rsverify.report").joinpath("page.html.jinja").read_text(encoding="utf-8")
    )
    pictures = []
    for key, rows in _by_quantity(verdict.rows).items():
        if any(row.estimated or row.measured for row in rows):
            pictures.append((key, curves(rows, margin=rows[0].margin)))
    rows = [
        {
            "row": row,
            "predicted": predicted_text(row),
            "estimated": exponent_text(row.estimated.interval, row.estimated.exponent) if row.estimated else "silent",
            "measured": measured_text(row),
        }
        for row in verdict.rows
    ]
    return template.render(
        verdict=verdict, outcome=OUTCOME_WORDS[verdict.verdict], consequences=consequences(verdict.rows), rows=rows, pictures=pictures,
        command=command, how=_how(verdict),
    )  # fmt: skip


def _by_quantity(rows: tuple[Row, ...]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        claim = row.claim
        probe = "" if claim.probe == "aligned" else f", probe {claim.probe}"
        steps = "at init" if claim.steps == 0 else f"after {claim.steps} step{'s' * (claim.steps != 1)}"
        found.setdefault(f"{claim.quantity} ({claim.statistic}{probe}) {steps}", []).append(row)
    return found


def _how(verdict: Verdict) -> list[tuple[str, str]]:
    p = verdict.provenance
    found = [("rsverify", p.version), ("commit", p.commit or "none"), ("made", p.created), ("python", p.python), ("platform", p.platform)]
    found += [("device", p.device), ("seed", str(p.seed))]
    found += [(name, text) for name, text in p.packages.items()]
    found += [(f"hash of {name}", text) for name, text in p.hashes.items()]
    found += [(name, str(value)) for name, value in p.settings.items() if name != "command"]
    return found
