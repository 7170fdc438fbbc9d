"""The judge: do the witnesses agree, and could we have noticed if they did not? Knows nothing of who made the records."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rsverify.records import Agreement, Claim, Estimate, Measurement, Outcome, Prediction, Row, Stability

MARGIN = 0.1
"""Default margin of an exponent: rules in use differ by 1/2."""

RATIO_MARGIN = 0.05
"""Default margin of a measured magnitude over the predicted curve."""


@dataclass(frozen=True)
class Statement:
    """One comparison with its answer; a context statement can refute a row, but never confirms it or leaves it open."""

    agreement: Agreement
    text: str
    context: bool = False


def judge(
    claim: Claim,
    *,
    predicted: Prediction | None,
    estimated: Estimate | None,
    measured: Measurement | None,
    silent: Mapping[str, str],
    headline: bool,
    margin: float = MARGIN,
    ratio_margin: float = RATIO_MARGIN,
) -> Row:
    """The row of the table for one claim: stability from the intervals, agreement from every comparison that can be made."""
    statements = compare(predicted, estimated, measured, margin=margin, ratio_margin=ratio_margin)
    return Row(
        claim=claim,
        headline=headline,
        predicted=predicted,
        estimated=estimated,
        measured=measured,
        silent=dict(silent),
        margin=margin,
        stability=stability(predicted, estimated, measured, margin),
        agreement=combine(statements),
        reason="; ".join(statement.text for statement in statements) or "no two witnesses speak of this",
    )


def compare(
    predicted: Prediction | None,
    estimated: Estimate | None,
    measured: Measurement | None,
    *,
    margin: float,
    ratio_margin: float,
) -> list[Statement]:
    """Every comparison between the records that are there, in the order of a reader's questions."""
    found: list[Statement] = []
    for numeric in (estimated, measured):
        if numeric is None:
            continue
        name = numeric.witness if isinstance(numeric, Measurement) else "Monte Carlo"
        bracket = numeric.bracket if isinstance(numeric, Measurement) else None
        if bracket is not None:
            found.append(_within(name, numeric, bracket, margin, "the bracket", context=True))
        elif predicted is not None:
            found.append(_against(name, numeric, predicted, margin))
    if predicted is not None and estimated is not None and predicted.formula is not None and not predicted.zero:
        found.append(curve_agreement(predicted, estimated, ratio_margin))
    if predicted is None and estimated is not None and measured is not None and measured.bracket is None:
        found.append(_between(estimated, measured, margin))
    if measured is not None:
        for control in measured.controls:
            said = f"{control.name} is {control.value:.4g}, expected {control.expected:.4g} +- {control.tolerance:.2g}"
            found.append(Statement("confirmed" if control.holds else "refuted", said, context=control.holds))
    return found


def combine(statements: Sequence[Statement]) -> Agreement:
    """Refuted where one statement is; confirmed where all that decide are, and there is one; else inconclusive."""
    if any(statement.agreement == "refuted" for statement in statements):
        return "refuted"
    deciding = [statement for statement in statements if not statement.context]
    if deciding and all(statement.agreement == "confirmed" for statement in deciding):
        return "confirmed"
    return "inconclusive"


def interval_agreement(interval: tuple[float, float], lo: float, hi: float) -> Agreement:
    """Whether an interval lies inside [lo, hi] (confirmed), outside (refuted), or across an end (inconclusive)."""
    if lo <= interval[0] and interval[1] <= hi:
        return "confirmed"
    return "refuted" if interval[1] < lo or hi < interval[0] else "inconclusive"


def classify(interval: tuple[float, float], margin: float) -> Stability:
    """Stability of a magnitude whose exponent lies in the interval."""
    lo, hi = interval
    if -margin <= lo and hi <= margin:
        return "stable"
    if hi < -margin:
        return "collapses"
    return "explodes" if lo > margin else "inconclusive"


def stability(predicted: Prediction | None, estimated: Estimate | None, measured: Measurement | None, margin: float) -> Stability:
    """What all witnesses that speak say together; `inconclusive` where they do not say the same.

    Where theory has only a bracket for what was measured, the measurement alone says it: the others speak of another setting.
    """
    if measured is not None and measured.bracket is not None:
        return _seen(measured, margin)
    said: set[Stability] = set()
    if predicted is not None:
        if predicted.zero:
            said.add("zero")
        elif predicted.exponent is not None:
            said.add(classify((float(predicted.exponent), float(predicted.exponent)), margin))
        elif predicted.exponent_range is not None:
            said.add(classify((float(predicted.exponent_range[0]), float(predicted.exponent_range[1])), margin))
    for numeric in (estimated, measured):
        if numeric is not None:
            said.add(_seen(numeric, margin))
    return said.pop() if len(said) == 1 else "inconclusive"


def _seen(numeric: Estimate | Measurement, margin: float) -> Stability:
    """The stability that one witness saw."""
    if numeric.zero:
        return "zero"
    return classify(numeric.interval, margin) if numeric.interval is not None else "inconclusive"


def curve_agreement(predicted: Prediction, estimated: Estimate, ratio_margin: float) -> Statement:
    """Estimated over predicted magnitude at every rank, against 1 +- ratio_margin."""
    sizes = {key: estimated.data[key] for key in ("d_in", "d_out")}
    data: dict[str, Any] = {key: value for key, value in estimated.data.items() if key not in sizes}
    curve = predicted.at(estimated.ranks, d_in=int(sizes["d_in"]), d_out=int(sizes["d_out"]), **data)
    answers: list[Agreement] = []
    worst = 1.0
    for point, truth in zip(estimated.curve, curve, strict=True):
        if truth == 0:
            answers.append("inconclusive" if point.lo <= 0 <= point.hi else "refuted")
            continue
        ends = sorted((point.lo / truth, point.hi / truth))
        answers.append(interval_agreement((ends[0], ends[1]), 1 - ratio_margin, 1 + ratio_margin))
        if abs(point.value / truth - 1) > abs(worst - 1):
            worst = float(point.value / truth)
    count = len(answers)
    kind = "exact" if predicted.exact else f"leading ({predicted.error_order})"
    tail = f"of the {kind} curve at {count} ranks, farthest ratio {worst:.4f}"
    if "refuted" in answers:
        return Statement("refuted", f"Monte Carlo is outside +-{ratio_margin:.0%} {tail}")
    if all(answer == "confirmed" for answer in answers):
        return Statement("confirmed", f"Monte Carlo is within +-{ratio_margin:.0%} {tail}")
    return Statement("inconclusive", f"Monte Carlo cannot tell +-{ratio_margin:.0%} {tail}")


def _against(name: str, numeric: Estimate | Measurement, predicted: Prediction, margin: float) -> Statement:
    if predicted.zero or numeric.zero:
        same = predicted.zero and numeric.zero
        return Statement("confirmed" if same else "refuted", f"{name} sees {'nothing' if numeric.zero else 'something'}, predicted "
                         f"{'nothing' if predicted.zero else 'something'}")  # fmt: skip
    if predicted.exponent is not None:
        ends = (predicted.exponent, predicted.exponent)
    elif predicted.exponent_range is not None:
        ends = predicted.exponent_range
    else:
        return Statement("inconclusive", "theory gives no exponent here")
    label = f"{ends[0]}" if ends[0] == ends[1] else f"[{ends[0]}, {ends[1]}]"
    return _within(name, numeric, (float(ends[0]), float(ends[1])), margin, label, context=False)


def _within(
    name: str, numeric: Estimate | Measurement, ends: tuple[float, float], margin: float, label: str, *, context: bool
) -> Statement:
    if numeric.interval is None:
        return _without_interval(name, numeric, context)
    answer = interval_agreement(numeric.interval, ends[0] - margin, ends[1] + margin)
    shown = f"[{numeric.interval[0]:+.3f}, {numeric.interval[1]:+.3f}]"
    if label == "the bracket":
        label = f"the bracket [{ends[0]:+.2f}, {ends[1]:+.2f}]"
    place = {"confirmed": "inside", "refuted": "outside", "inconclusive": "across an end of"}[answer]
    price = f" ({draws_to_settle(numeric, ends, margin)})" if answer == "inconclusive" else ""
    return Statement(answer, f"{name} {shown} is {place} {label} +- {margin:g}{price}", context)


def _without_interval(name: str, numeric: Estimate | Measurement, context: bool) -> Statement:
    """What an exponent without an interval says: a magnitude seen below zero contradicts it, one across zero cannot tell.

    An estimate's exponent is that of the absolute value: it has none only where zero is not excluded at some rank.
    """
    below = [point.rank for point in numeric.curve if point.hi < 0]
    if isinstance(numeric, Measurement) and below:
        return Statement("refuted", f"{name} sees no power law: the magnitude is below zero at rank {below[0]}", context)
    across = [point for point in numeric.curve if point.lo <= 0 <= point.hi]
    ratios = [(point.hi - point.lo) / (2 * abs(point.value)) if point.value else math.inf for point in across]
    worst = max(ratios, default=math.inf)
    price = "no number of draws seen so far says how many would" if not math.isfinite(worst) else (
        f"some {(2 * worst) ** 2:.3g} times the {numeric.draws} draws would settle it"
    )  # fmt: skip
    ranks = ", ".join(str(point.rank) for point in across) or "some draws"
    return Statement("inconclusive", f"{name} cannot tell the exponent: zero is not excluded at {ranks} ({price})", context)


def draws_to_settle(numeric: Estimate | Measurement, ends: tuple[float, float], margin: float) -> str:
    """What an inconclusive interval would cost to settle: half-widths fall as one over the root of the draws."""
    assert numeric.interval is not None
    lo, hi = numeric.interval
    centre, half = (lo + hi) / 2, (hi - lo) / 2
    systematic = numeric.systematic if isinstance(numeric, Estimate) else 0.0
    room = min(abs(centre - (ends[0] - margin)), abs(centre - (ends[1] + margin)))
    statistical = half - systematic
    if room <= systematic or statistical <= 0:
        return "more draws would not settle it: the centre or the systematic error lies at the margin's edge"
    return f"some {(statistical / (room - systematic)) ** 2:.1f} times the {numeric.draws} draws would settle it"


def _between(estimated: Estimate, measured: Measurement, margin: float) -> Statement:
    if estimated.interval is None or measured.interval is None:
        return Statement("inconclusive", "one witness cannot tell the exponent")
    lo = measured.interval[0] - estimated.interval[1]
    hi = measured.interval[1] - estimated.interval[0]
    answer = interval_agreement((lo, hi), -margin, margin)
    return Statement(answer, f"{measured.witness.removeprefix('the ')} minus Monte Carlo is [{lo:+.3f}, {hi:+.3f}], margin {margin:g}")


def outcome(rows: Sequence[Row]) -> Outcome:
    """Holds when no row is refuted and every headline row is confirmed; needs at least one headline row."""
    if any(row.agreement == "refuted" for row in rows):
        return "does_not_hold"
    headlines = [row for row in rows if row.headline]
    if headlines and all(row.agreement == "confirmed" for row in headlines):
        return "holds"
    return "inconclusive"


def expected_outcome(rows: Sequence[Row], expect: Stability) -> Outcome:
    """Whether every row has the stability that the user expects, and the witnesses agree about it.

    Rows that theory only brackets are context beside rows that it fixes.
    """
    rows = [row for row in rows if row.measured is None or row.measured.bracket is None] or list(rows)
    if any(row.agreement == "refuted" or row.stability not in (expect, "inconclusive") for row in rows):
        return "does_not_hold"
    settled = bool(rows) and all(row.stability == expect and row.agreement == "confirmed" for row in rows)
    return "holds" if settled else "inconclusive"
