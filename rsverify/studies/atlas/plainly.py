"""The question that users ask of seven adapters: is 1/sqrt(r) right here, and if not, what is? Read off the judged answers."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from rsverify.studies.atlas.record import Answer, Plain
from rsverify.studies.atlas.rules import power_text, rounded

ASKED = ("lora", "loha", "lokr", "vera", "hira", "pissa", "randlora")
WHERE = {"width": "for r far below the widths", "rank": "for r beyond them"}


def plainly(answers: Sequence[Answer]) -> tuple[Plain, ...]:
    """One line for each of the seven that was asked, under each optimizer; what holds far below the widths comes first."""
    cases = dict.fromkeys((a.variant, a.optimizer) for a in answers)
    order = sorted((case for case in cases if case[0] in ASKED), key=lambda case: ASKED.index(case[0]))
    return tuple(_plain([a for a in answers if (a.variant, a.optimizer) == case]) for case in order)


def _plain(group: Sequence[Answer]) -> Plain:
    group = sorted(group, key=lambda a: a.regime == "rank")
    found = {a.root_stability for a in group}
    word = "open" if "inconclusive" in found else "yes" if found == {"stable"} else "depends" if "stable" in found else "no"
    return Plain(group[0].variant, group[0].optimizer, word, _instead(group), _why(group))


def _instead(group: Sequence[Answer]) -> str:
    rules = [rule_of(a) for a in group]
    if len(set(rules)) == 1:
        return rules[0]
    return "; ".join(f"{rule} {WHERE[a.regime]}" for rule, a in zip(rules, group, strict=True))


def rule_of(answer: Answer) -> str:
    """The rule to use: the shipped one where it is stable, else the stable one."""
    return answer.shipped if answer.shipped_stability == "stable" else answer.stable_rule or "none known"


def _why(group: Sequence[Answer]) -> str:
    said = [(_size(a), _under_root(a)) for a in group]
    remarks = "".join(f". {remark.rstrip('.')}" for a in group if (remark := a.remark))
    if len(set(said)) == 1:
        return f"one step moves the output by {said[0][0]}: {said[0][1]}{remarks}"
    return (
        "; ".join(f"{WHERE[a.regime]} one step moves the output by {size}: {then}" for a, (size, then) in zip(group, said, strict=True))
        + remarks
    )


def terms_of(answer: Answer) -> tuple[Fraction, Fraction] | tuple[float, float] | None:
    """(a, b) of gamma**a * r**b: fractions where they are derived, else as simulated; None where nobody knows them.

    Of several terms that of the first power of lr.
    """
    if answer.terms:
        a, b, _ = min(answer.terms, key=lambda term: (term[2], -term[1]))
        return a, b
    return answer.measured_terms


def _size(answer: Answer) -> str:
    terms = terms_of(answer)
    if terms is None:
        return "an amount that nobody knows"
    powers = [power_text(name, p) for name, p in zip(("gamma", "r"), terms, strict=True) if rounded(p) != 0]
    return "lr * " + " * ".join(powers) + ("" if answer.terms else " (simulated)")


def _under_root(answer: Answer) -> str:
    """What 1/sqrt(r) makes of it, from the row that was judged."""
    terms = terms_of(answer)
    power = "" if terms is None else f" as {power_text('r', terms[1] - terms[0] / 2)}"
    return {
        "stable": "1/sqrt(r) keeps that free of r",
        "collapses": f"under 1/sqrt(r) it falls{power}",
        "explodes": f"under 1/sqrt(r) it grows{power}",
    }.get(answer.root_stability, "under 1/sqrt(r) the witnesses do not settle it")


__all__ = ["ASKED", "plainly", "rule_of", "terms_of"]
