"""The derivation of a stable rule as a person would write it: lines of text, every number read off the derived terms."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import sympy as sp

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.claims import Setting
from rsverify.definitions.laws import Frozen, Law, Zero
from rsverify.definitions.rates import ratio_note
from rsverify.records import Claim
from rsverify.symbolic.moments import symbols as s
from rsverify.symbolic.steps.magnitude import Magnitude

_LIMIT = {"rank": "as r grows at fixed widths", "width": "with the widths grown first, then r"}


def explain(
    asked: Setting,
    found: Magnitude,
    terms: Sequence[tuple[Fraction, Fraction, Fraction]],
    status: str,
    interval: tuple[Fraction | None, Fraction | None] | None,
) -> tuple[str, ...]:
    """The steps from the declaration to the rule."""
    adapter, claim = asked.adapter, asked.claim
    said = [f"{adapter.name}: added weight gamma(r) * ({adapter.expression}), at init {adapter.init}."]
    if claim.steps:
        said.append(moving(adapter))
        said.append(f"The step: {asked.optimizer.formula}.")
        if note := ratio_note(asked.optimizer, adapter):
            said.append(f"{note}.")
    if not terms:
        return (*said, f"{asked_for(claim)} vanishes identically: no rule makes it grow or shrink.")
    shown = sp.sqrt(found.value) if found.squared else found.value
    if claim.cosine in (0.0, 1.0, -1.0):
        shown = shown.subs(s.cosine, int(claim.cosine))
    how = "exactly" if found.exact else f"to relative order {found.error_order}"
    if found.upper is None:
        said.append(f"{asked_for(claim)} is, {how}: {sp.factor_terms(shown)}.")
    else:
        above = sp.sqrt(found.upper) if found.squared else found.upper
        said.append(f"{asked_for(claim)} lies, up to constants free of r, between {sp.factor_terms(shown)} and {sp.factor_terms(above)}.")
    said += [f"{note[0].upper()}{note[1:]}." for note in found.notes]
    said.append(f"What decides {_LIMIT[claim.regime]}: {' + '.join(power_text(term) for term in terms)}, each up to a constant.")
    lines = [exponent_text(a, b) for a, b, _ in terms]
    largest = lines[0] if len(lines) == 1 else f"max({', '.join(lines)})"
    said.append(f"With gamma ~ r**-p and a learning rate free of r the exponent is {largest}.")
    said.append(conclusion(status, interval))
    return tuple(said)


def moving(adapter: Adapter) -> str:
    """Which factors the first step moves: a zero factor hides all others from the gradient."""
    zero = [name for name, law in adapter.laws.items() if is_zero(law)]
    trained = adapter.trainable
    if len(zero) == 1 and len(adapter.laws) > 1:
        others = [name for name in trained if name not in zero]
        hidden = f": the gradient of {' and '.join(others)} contains it and is zero" if others else ""
        return f"{zero[0]} is zero at init, so the first step moves {zero[0]} alone{hidden}."
    if len(zero) > 1:
        return f"{' and '.join(zero)} are zero at init: every gradient contains one of them, and nothing moves."
    return f"No factor is zero at init: {' and '.join(trained)} move{'s' * (len(trained) == 1)} at the first step."


def is_zero(law: Law) -> bool:
    """Whether a factor's entries all start at zero."""
    return isinstance(law.law if isinstance(law, Frozen) else law, Zero)


def asked_for(claim: Claim) -> str:
    """The quantity in words, with its statistic, probe and steps."""
    when = "at init" if claim.steps == 0 else f"after {claim.steps} step{'s' * (claim.steps > 1)}"
    return f"The {claim.statistic} of {claim.quantity} {when} (probe {claim.probe})"


def power_text(term: tuple[Fraction, Fraction, Fraction]) -> str:
    """gamma**a * lr**c * r**b, the powers of zero left out."""
    a, b, c = term
    parts = [name if power == 1 else f"{name}**({power})" for name, power in (("gamma", a), ("lr", c), ("r", b)) if power]
    return " * ".join(parts) or "1"


def exponent_text(a: Fraction, b: Fraction) -> str:
    """b - a p, parts of zero left out."""
    falling = "" if not a else "p" if a == 1 else f"{a} p"
    if not b:
        return f"-{falling}" if falling else "0"
    return f"{b} - {falling}" if falling else f"{b}"


def rule_text(p: Fraction) -> str:
    """The rule of decay exponent p as one would write it."""
    if p == 0:
        return "alpha"
    power = "r" if abs(p) == 1 else "sqrt(r)" if abs(p) == Fraction(1, 2) else f"r**{abs(p)}" if p.denominator == 1 else f"r**({abs(p)})"
    return f"alpha/{power}" if p > 0 else f"alpha*{power}"


def conclusion(status: str, interval: tuple[Fraction | None, Fraction | None] | None) -> str:
    """The answer in one sentence."""
    if status == "none" or (interval is None and status != "any"):
        return "No power of r in the rule makes it stable."
    if status == "any" or interval is None:
        return "Every rule keeps it stable: no gamma enters."
    lo, hi = interval
    if status == "unique" and lo is not None:
        return f"It is zero at p = {lo}: the stable rule is {rule_text(lo)}."
    if hi is None:
        return f"It is zero for every p from {lo}."
    return f"The stable p lies in [{lo}, {hi}]: from {rule_text(lo or Fraction(0))} to {rule_text(hi)}; theory gives no more."
