"""The verdict as one HTML file that stands alone: verdict first, pictures, numbers, how it was made, how to repeat it."""

from __future__ import annotations

from pathlib import Path

from rsverify.files.writing import write_whole
from rsverify.records import Row, Verdict
from rsverify.report.words import OUTCOME_WORDS, consequences, exponent_text, measured_text, predicted_text
from rsverify.report.writing import how_it_was_made, rendered


def write_page(verdict: Verdict, path: Path, *, command: str) -> None:
    """Write report.html; `command` is what repeats the run."""
    write_whole(path, page(verdict, command=command), name="page")


def page(verdict: Verdict, *, command: str) -> str:
    """The HTML text: no script, no network, readable on a phone and in print."""
    from rsverify.report.figures import curves

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
    return rendered(
        "page.html.jinja",
        verdict=verdict, outcome=OUTCOME_WORDS[verdict.verdict], consequences=consequences(verdict.rows), rows=rows, pictures=pictures,
        command=command, how=how_it_was_made(verdict.provenance),
    )  # fmt: skip


def _by_quantity(rows: tuple[Row, ...]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        claim = row.claim
        probe = "" if claim.probe == "aligned" else f", probe {claim.probe}"
        steps = "at init" if claim.steps == 0 else f"after {claim.steps} step{'s' * (claim.steps != 1)}"
        found.setdefault(f"{claim.quantity} ({claim.statistic}{probe}) {steps}", []).append(row)
    return found
