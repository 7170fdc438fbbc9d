"""The rules that the atlas compares: the shipped one, 1/sqrt(r), the stable one, and what they are worth at one rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from rsverify.definitions.rules import ScalingRule
from rsverify.report.formulas import power

ROOT = Fraction(1, 2)


@dataclass(frozen=True)
class Named:
    """A rule as text with its power p of gamma ~ r**-p."""

    text: str
    power: Fraction


def named_rule(shipped: str, name: str, *, match_at: int | None = None) -> Named:
    """The `shipped` rule itself, or `root`: the rank-stabilized one with the shipped rule's alpha."""
    if name == "shipped":
        return Named(shipped, ScalingRule(shipped).power)
    return rule_with_power(shipped, ROOT, match_at=match_at)


def rule_with_power(shipped: str, p: Fraction, *, match_at: int | None = None) -> Named:
    """gamma ~ r**-p with alpha where the shipped rule has it; at `match_at` equal to the shipped rule."""
    old = ScalingRule(shipped)
    if old.power == p:
        return Named(shipped, p)
    front = "alpha" if old.expression is not None and "alpha" in old.expression.names else "1"
    text = front + _decay(p)
    if match_at is not None:
        text = f"{power_text(str(match_at), p - old.power)}*{text}"
    return Named(text, p)


def _decay(p: Fraction) -> str:
    if p == 0:
        return ""
    roots = {ROOT: "/sqrt(r)", -ROOT: "*sqrt(r)"}
    return roots.get(p) or ("/" if p > 0 else "*") + power_text("r", abs(p))


def power_text(base: str, p: Fraction | float) -> str:
    """base**p: a derived power as the fraction that it is, r**(1/2); one read off a simulation with two decimals, r**0.49."""
    return power(base, str(p) if isinstance(p, Fraction) else "1" if rounded(p) == 1 else f"{rounded(p):.2f}")


def rounded(p: Fraction | float) -> float:
    """As a simulated power is written, and no minus before nothing."""
    return round(float(p), 2) + 0.0


def flags(variant: str, rules: Sequence[Named], *, alpha: float, reference: int) -> list[str]:
    """A sentence for each comparison of rules that differ in scale at the reference rank: there a rule is also another learning rate."""
    first = rules[0]
    scale = ScalingRule(first.text).gamma(reference, alpha)
    found = []
    for other in rules[1:]:
        ratio = ScalingRule(other.text).gamma(reference, alpha) / scale
        if abs(ratio - 1) > 1e-9:
            found.append(
                f"{variant}: at rank {reference} {other.text} is {ratio:.4g} times {first.text}; exponents do not depend on it, magnitudes "
                f"and learning rates do (--match-at {reference} makes them equal there)"
            )
    return found
