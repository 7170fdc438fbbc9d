"""From judged rows to an answer: is 1/sqrt(r) right here, is the shipped rule, and what to use instead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

from rsverify.records import Agreement, Outcome, Row, StableScaling
from rsverify.studies.atlas.record import Answer, Entry
from rsverify.studies.atlas.rules import Named, power_text
from rsverify.studies.atlas.variants import REMARKS, Variant


def answer_of(
    variant: Variant, optimizer: str, regime: str, *, solved: StableScaling | None, measured: tuple[float, float] | None,
    stable: Named | None, found_by: tuple[str, ...], rows: Mapping[str, Row], shipped: Named, root: Named, other: Fraction | None,
    margin: float,
) -> Answer:  # fmt: skip
    """The answer for one variant, optimizer and regime."""
    remark = REMARKS.get((variant.name, optimizer, regime), "")
    confirmed = stable is not None and rows[stable.text].stability == "stable"
    by = found_by
    if confirmed and stable is not None and rows[stable.text].estimated is not None and "montecarlo" not in by:
        by = (*by, "montecarlo")  # the rule itself was simulated and seen to be stable
    lr = solved.lr_exponent(shipped.power) if solved is not None else None
    return Answer(
        variant.name, variant.library, variant.init, optimizer, regime, solved.terms if solved is not None else (), measured,
        None if stable is None else stable.power, "" if stable is None else stable.text, by, other,
        shipped.text, rows[shipped.text].stability, root.text, rows[root.text].stability, lr, _together(list(rows.values())),
        max(speaking(row) for row in rows.values()),
        " ".join(filter(None, (_sentence(rows, shipped=shipped, root=root, stable=stable, lr=lr), remark))), remark,
    )  # fmt: skip


def _together(rows: Sequence[Row]) -> Agreement:
    """What the rows of two witnesses say together; those of one have nobody to agree with."""
    said = {row.agreement for row in rows if speaking(row) > 1}
    return "refuted" if "refuted" in said else "confirmed" if said == {"confirmed"} else "inconclusive"


def exponent(row: Row) -> Fraction | float | None:
    """The power of r that the row's quantity has: a fraction where it is derived, else as simulated, else of PEFT's layer."""
    if row.predicted is not None and row.predicted.exponent is not None:
        return row.predicted.exponent
    seen = row.estimated or row.measured
    return None if seen is None else seen.exponent


def _how(row: Row) -> str:
    e = exponent(row)
    if row.agreement == "refuted":
        return "contradictory: the witnesses disagree"
    size = "" if e is None else f" as {power_text('r', e)}"
    return {"stable": "stable", "collapses": f"collapses{size}", "explodes": f"grows{size}", "zero": "zero"}.get(
        row.stability, f"not settled (near {power_text('r', e)})" if e is not None else "not settled"
    )  # fmt: skip


def _sentence(rows: Mapping[str, Row], *, shipped: Named, root: Named, stable: Named | None, lr: Fraction | None) -> str:
    """Plainly: 1/sqrt(r), the shipped rule, what instead."""
    if any(row.agreement == "refuted" for row in rows.values()):
        return "The witnesses contradict each other: rely on none of this."
    right = rows[root.text].stability
    word = {"stable": "right", "inconclusive": "not settled"}.get(right, "wrong")
    text = f"1/sqrt(r) is {word} here" + ("" if right == "stable" else f" ({_how(rows[root.text])})")
    text += f"; the shipped {shipped.text} {'is ' if rows[shipped.text].stability == 'stable' else ''}{_how(rows[shipped.text])}."
    if rows[shipped.text].stability == "stable":
        return text + " Keep the shipped rule."
    if stable is None:
        return text + " No power of r is known to be stable."
    if rows[stable.text].stability not in ("stable", "inconclusive"):
        return text + f" {stable.text} was expected to be stable and {_how(rows[stable.text])}."
    doubt = "" if rows[stable.text].stability == "stable" else " (not settled by simulation)"
    text += f" Use {stable.text}{doubt}"
    if "alpha" in shipped.text and shipped.power != stable.power:
        verb = "grow" if shipped.power > stable.power else "fall"
        text += f": where the library applies {shipped.text}, let alpha {verb} as {power_text('r', shipped.power - stable.power)}"
    if lr is not None and lr != 0:
        text += f"; or keep {shipped.text} with a learning rate that goes as {power_text('r', lr)}"
    return text + "."


def witnesses_of(row: Row) -> dict[str, object]:
    """What each witness that the atlas asks said of a row; None where it is silent."""
    return {"symbolic": row.predicted, "montecarlo": row.estimated, "library": row.measured}


def speaking(row: Row) -> int:
    """How many witnesses speak of a row."""
    return sum(record is not None for record in witnesses_of(row).values())


def sentence_of(entries: Sequence[Entry], verdict: Outcome) -> str:
    """The whole table in one sentence."""
    both = [e.row for e in entries if speaking(e.row) > 1]
    count = {kind: sum(row.agreement == kind for row in both) for kind in ("confirmed", "refuted", "inconclusive")}
    three = sum(speaking(row) == 3 for row in both)
    alone = sum(speaking(e.row) == 1 for e in entries)
    none = len(entries) - len(both) - alone
    text = f"{len(entries)} numbers: {len(both)} have two witnesses or three ({three}) and "
    text += f"{count['confirmed']} of them are confirmed, {count['refuted']} contradictory, {count['inconclusive']} open; "
    text += f"{alone} have one and say why the others are silent"
    text += f", {none} have none and say why" if none else ""
    tail = {"holds": "none contradicts another", "does_not_hold": "some contradict each other", "inconclusive": "none is refuted"}[verdict]
    return f"{text}; {tail}."


__all__ = ["answer_of", "exponent", "sentence_of", "speaking", "witnesses_of"]
