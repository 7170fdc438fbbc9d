"""What a row means for somebody who trains adapters, in one sentence; and the sentence over the whole table."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from rsverify.records import Outcome, Row, Stability
from rsverify.report.formulas import power as power_of

_NOUN = {
    "output": "what the adapter adds to a layer's output",
    "update": "the change of a layer's output",
    "gradient_norm": "the gradient of the adapter",
    "input_gradient": "the gradient that the adapter passes down",
    "loss_decrease": "the loss decrease",
}
_SIGN_LIKE = ("signsgd", "lion", "adam", "adamw", "rmsprop", "adagrad")
OUTCOME_WORDS: dict[Outcome, str] = {"holds": "HOLDS", "does_not_hold": "DOES NOT HOLD", "inconclusive": "INCONCLUSIVE"}
OUTCOME_STYLES: dict[Outcome, str] = {"holds": "bold green", "does_not_hold": "bold red", "inconclusive": "bold yellow"}
"""Of the outcome on a terminal."""


def meaning(row: Row, *, low: int = 16, high: int = 256) -> str:
    """One sentence of consequence: what going from rank `low` to `high` does to this quantity."""
    claim = row.claim
    kind, _, factor = claim.quantity.partition(":")
    noun = f"the gradient of factor {factor}" if factor else _NOUN[kind]
    when = "at init" if claim.steps == 0 else f"after {claim.steps} step{'s' * (claim.steps > 1)}"
    if row.agreement == "refuted":
        return f"The witnesses contradict each other about {noun} {when}: do not rely on either."
    seen = row.estimated is not None or row.measured is not None
    exponent = _found_exponent(row) if seen else _predicted_exponent(row)
    if row.stability == "zero" or exponent is None:
        return f"{noun[0].upper()}{noun[1:]} {when} is zero." if row.stability == "zero" else f"No power law can be told for {noun} {when}."
    factor_of_change = (high / low) ** exponent
    start = f"From rank {low} to {high}, {noun} {when}" if seen else f"By theory alone, from rank {low} to {high}, {noun} {when}"
    end = f"{_bracketed(row)}."
    if row.stability == "stable":
        return f"{start} keeps its size{end}"
    if row.stability == "collapses":
        return f"{start} shrinks {1 / factor_of_change:.3g}-fold{end}"
    if row.stability == "explodes":
        return f"{start} grows {factor_of_change:.3g}-fold{end}"
    return f"{start} changes by a factor near {factor_of_change:.3g}; the witnesses do not settle it{end}"


def _bracketed(row: Row) -> str:
    """What theory has where it has a bracket only."""
    if row.measured is not None and row.measured.bracket is not None:
        ends = row.measured.bracket
    elif row.predicted is not None and row.predicted.exponent_range is not None:
        ends = float(row.predicted.exponent_range[0]), float(row.predicted.exponent_range[1])
    else:
        return ""
    return f", where theory has a bracket only, from {_power_of_r(ends[0])} to {_power_of_r(ends[1])}"


def consequences(rows: Sequence[Row]) -> tuple[tuple[str, str], ...]:
    """What the deciding and the refuted rows mean, one paragraph for each optimizer and rule: (whose, text)."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if row.headline or row.agreement == "refuted":
            said = found.setdefault(f"{row.claim.optimizer}, {row.claim.rule}", [])
            text = meaning(row)
            opening = text.partition(", ")[0] + ", "
            if said and said[0].startswith(opening):
                text = text.removeprefix(opening)
            if text.rstrip(".") not in (before.removeprefix(opening).rstrip(".") for before in said):
                said.append(text)
    return tuple((whose, "; ".join(text.rstrip(".") for text in said) + ".") for whose, said in found.items())


def sentence(rows: Sequence[Row], verdict: Outcome, *, expect: Stability | None, complete: bool) -> str:
    """The verdict in one sentence."""
    if not complete:
        return f"Interrupted: {len(rows)} rows were finished and none of what is missing is claimed."
    headlines = [row for row in rows if row.headline]
    if expect is not None:
        settled = sum(row.stability == expect for row in rows)
        return f"{settled} of {len(rows)} rows are {expect}, as expected." if settled else f"None of the {len(rows)} rows is {expect}."
    confirmed = sum(row.agreement == "confirmed" for row in headlines)
    refuted = sum(row.agreement == "refuted" for row in rows)
    if verdict == "does_not_hold":
        return f"{refuted} of {len(rows)} rows are refuted: theory, simulation and training do not say the same."
    tail = f"{confirmed} of {len(headlines)} headline rows are confirmed and none of {len(rows)} rows is refuted"
    return f"{tail}: what must happen is what happens." if verdict == "holds" else f"{tail}; the rest cannot be told from these draws."


def notes(rows: Sequence[Row]) -> tuple[str, ...]:
    """Sentences that keep two true rows from being read as a contradiction; made only where the table shows both."""
    found = []
    for rule in dict.fromkeys(row.claim.rule for row in rows):
        sign = [row for row in rows if row.claim.rule == rule and row.claim.optimizer.partition(":")[0] in _SIGN_LIKE]
        flat = [row for row in sign if row.claim.quantity == "gradient_norm" and row.stability == "stable"]
        grows = [row for row in sign if row.claim.quantity == "update" and row.headline and row.stability == "explodes"]
        if flat and grows:
            optimizer = grows[0].claim.optimizer
            # A confirmed law is what was seen, and is shorter to say than its digits.
            power = _predicted_exponent(grows[0]) if grows[0].agreement == "confirmed" else None
            power = _found_exponent(grows[0]) if power is None else power
            power = _predicted_exponent(grows[0]) if power is None else power
            assert power is not None
            found.append(
                f"Under {optimizer}, {rule} keeps the gradient norm at init flat and lets the update grow as {_power_of_r(power)}, and "
                f"these do not contradict each other: the norm at init is what reaches the factors before any step, whatever the "
                f"optimizer. {optimizer} divides each entry of the gradient by its own size, so its step no longer knows that norm; every "
                f"rank channel moves by lr, their contributions add up, and the update stays flat only if lr falls as "
                f"{_power_of_r(-power)}."
            )
    return tuple(found)


def _power_of_r(exponent: float) -> str:
    """r with its power, as a fraction where it is one: r**(1/2)."""
    near = Fraction(exponent).limit_denominator(12)
    return power_of("r", str(near) if abs(float(near) - exponent) < 1e-9 else f"{exponent:.3g}")


def exponent_text(interval: tuple[float, float] | None, exponent: float | None) -> str:
    """An exponent with half the width of its interval, e.g. "-0.998 ± 0.012"."""
    if exponent is None or interval is None:
        return "none"
    return f"{exponent:+.3f} ± {(interval[1] - interval[0]) / 2:.3f}"


def predicted_text(row: Row) -> str:
    """The predicted exponent as a person would write it."""
    predicted = row.predicted
    if predicted is None:
        return "silent"
    if predicted.zero:
        return "zero"
    if predicted.exponent is not None:
        sign = "+" if predicted.exponent > 0 else ""
        return f"{sign}{predicted.exponent}" + ("" if predicted.exact else " (leading)")
    if predicted.exponent_range is not None:
        return f"{predicted.exponent_range[0]} to {predicted.exponent_range[1]}"
    return "none"


def measured_text(row: Row) -> str:
    """The measured exponent, or the bracket it is held against."""
    if row.measured is None:
        return "silent"
    text = exponent_text(row.measured.interval, row.measured.exponent)
    if row.measured.bracket is not None:
        lo, hi = row.measured.bracket
        text += f" in [{lo:+.2g}, {hi:+.2g}]"
    return text


def _found_exponent(row: Row) -> float | None:
    """The exponent that was measured, else simulated: what a sentence may state."""
    witnesses = (row.measured, row.estimated)
    return next((witness.exponent for witness in witnesses if witness is not None and witness.exponent is not None), None)


def _predicted_exponent(row: Row) -> float | None:
    """The exponent that theory foretells."""
    return None if row.predicted is None or row.predicted.exponent is None else float(row.predicted.exponent)
