"""The verdict on a terminal: the table, then what it means, then the outcome."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rsverify.records import Verdict
from rsverify.report.words import OUTCOME_STYLES, OUTCOME_WORDS, consequences, exponent_text, measured_text, predicted_text

LEGEND = (
    "Numbers are powers of the rank r: 0 keeps its size, -1 halves when r doubles. ± is half the width of an interval; "
    '"in [a, b]" is the range that theory gives where it gives no single power.'
)
"""What the columns say, for a reader who sees them for the first time."""

_COLOUR = {"confirmed": "green", "refuted": "bold red", "inconclusive": "yellow"}


def show(verdict: Verdict, console: Console) -> None:
    """Print the table of a verdict with its sentences."""
    for adapter, regime in dict.fromkeys((row.claim.adapter, row.claim.regime) for row in verdict.rows):
        rows = [row for row in verdict.rows if (row.claim.adapter, row.claim.regime) == (adapter, regime)]
        table = Table(title=Text(f"{adapter}: exponents in rank (regime: {regime}; * = headline)"), title_justify="left", expand=False)
        for heading in ("optimizer", "rule", "quantity", "predicted", "Monte Carlo", "transformer", "stability", "agreement"):
            table.add_column(heading, overflow="fold", no_wrap=heading in ("rule", "stability", "agreement"))
        group: tuple[str, str] | None = None
        for row in rows:
            claim = row.claim
            if group not in (None, (claim.optimizer, claim.rule)):
                table.add_section()
            group = (claim.optimizer, claim.rule)
            quantity = f"{'*' if row.headline else ' '} {claim.quantity} {claim.statistic}"
            quantity += f", {claim.probe}" if claim.probe != "aligned" else ""
            quantity += f", {claim.steps} step{'s' * (claim.steps != 1)}"
            simulated = exponent_text(row.estimated.interval, row.estimated.exponent) if row.estimated else "silent"
            agreement = Text(row.agreement, style=_COLOUR[row.agreement])
            cells = (claim.optimizer, claim.rule, quantity, predicted_text(row), simulated, measured_text(row), row.stability)
            table.add_row(*map(Text, cells), agreement)  # as texts: names and rules are data, and no markup
        console.print(table)
    console.print(Text(LEGEND, style="dim"))
    for whose, text in consequences(verdict.rows):
        console.print(Text.assemble("  ", (f"{whose}:", "bold"), f" {text}"))
    for row in verdict.rows:
        if row.agreement != "confirmed":
            whose = f"{row.claim.optimizer}, {row.claim.rule}, {row.claim.quantity}:"
            console.print(Text.assemble("  ", (whose, "dim"), f" {row.reason}"))
    for note in verdict.notes:
        console.print(Text(f"\n{note}"))
    outcome = Text(OUTCOME_WORDS[verdict.verdict], style=OUTCOME_STYLES[verdict.verdict])
    console.print()
    console.print(Text.assemble(outcome, ": ", verdict.sentence))
