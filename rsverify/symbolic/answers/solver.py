"""The solver: which power of the rank a scaling rule must have for a quantity to stay stable, read off derived expressions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import combinations
from typing import Literal

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.claims import Setting, setting
from rsverify.definitions.optimizers import Optimizer
from rsverify.errors import InputError, known_arguments
from rsverify.records import Claim, StableScaling
from rsverify.symbolic.answers.explain import explain
from rsverify.symbolic.answers.reading import refuse_incomparable, settled, terms_of
from rsverify.symbolic.answers.refusal import with_command
from rsverify.symbolic.answers.witness import magnitude
from rsverify.symbolic.steps.magnitude import Magnitude

Term = tuple[Fraction, Fraction, Fraction]
"""(a, b, c) of gamma**a * lr**c * r**b."""
Zeros = tuple[Fraction | None, Fraction | None] | None
"""Where an exponent is zero as the rule's power p varies: from, to (None = without end); None where nowhere."""


@known_arguments
def solve(
    adapter: Adapter | str,
    *,
    optimizer: Optimizer | str = "sgd",
    quantity: str = "update",
    statistic: str = "rms",
    probe: str = "aligned",
    steps: int = 1,
    regime: str = "rank",
) -> StableScaling:
    """The power p of gamma ~ r**-p at which a quantity neither collapses nor explodes, at a learning rate free of the rank.

    Raises: NotDerivable with the reason; UnknownName, InputError.
    """
    asked = setting(adapter, "1", optimizer=optimizer, quantity=quantity, statistic=statistic, probe=probe, steps=steps, regime=regime)
    with with_command(asked):
        return _solved(asked)


def _solved(asked: Setting) -> StableScaling:
    # Decay multiplies by 1 - lr * weight_decay, which has no power of r: it would only show as further powers of lr.
    bare = asked.optimizer.with_options(weight_decay=0.0) if asked.optimizer.option("weight_decay") else asked.optimizer
    magnitude(asked.adapter, asked.optimizer, asked.claim)  # where decay itself makes a case underivable, that is the answer
    found = magnitude(asked.adapter, bare, asked.claim)
    refuse_incomparable(found, asked.claim)
    claim, terms = asked.claim, leading_terms(found, asked.claim)
    names = (claim.adapter, claim.optimizer, claim.quantity)
    if not terms:
        return StableScaling(*names, None, "any", (), explanation=explain(asked, found, terms, "any", None))
    zeros = stable_powers(terms)
    found = settled(found, claim, zeros[0] if zeros and zeros[0] is not None else Fraction(0))
    others = [zeros]
    if found.upper is not None:
        others.append(stable_powers(leading_terms(found, claim, upper=True)))
    if found.large is not None:
        others += [stable_powers(leading_terms(found.large, claim, upper=upper)) for upper in (False, True)]
    status, interval = _status(others)
    return StableScaling(
        *names, interval[0] if status == "unique" and interval else None, status, terms,
        rule_interval=interval if status == "interval" else None,
        explanation=explain(asked, found, terms, status, interval),
    )  # fmt: skip


def _status(found: Sequence[Zeros]) -> tuple[Literal["unique", "interval", "any", "none"], Zeros]:
    """What the stable powers of the ends between which the magnitude lies say together."""
    zeros = found[0]
    if all(other == zeros for other in found):
        if zeros is None:
            return "none", None
        if zeros == (None, None):
            return "any", zeros
        return ("unique" if zeros[0] == zeros[1] else "interval"), zeros
    ends = [end for pair in found if pair for end in pair if end is not None]
    # Theory brackets the exponent: so it does the rule.
    return ("interval", (min(ends), max(ends))) if ends else ("none", None)


def leading_terms(found: Magnitude, claim: Claim, *, upper: bool = False) -> tuple[Term, ...]:
    """The (a, b, c) of gamma**a * lr**c * r**b that can decide a magnitude, the others left out."""
    powers = terms_of(found, claim, upper=upper)
    return deciding([(a / found.root, b / found.root, c / found.root) for a, b, c in powers])


def deciding(terms: Iterable[Term]) -> tuple[Term, ...]:
    """The terms that are largest for some rule and learning rate: neither below another nor halfway between two."""
    highest: dict[tuple[Fraction, Fraction], Fraction] = {}
    for a, b, c in terms:
        highest[a, c] = max(b, highest.get((a, c), b))
    kept = sorted((a, b, c) for (a, c), b in highest.items())
    pairs = [tuple((p + q) / 2 for p, q in zip(one, other, strict=True)) for one, other in combinations(kept, 2)]
    middle = {(a, c): b for a, b, c in sorted(pairs)}  # the highest b of each
    return tuple((a, b, c) for a, b, c in kept if not ((a, c) in middle and middle[a, c] >= b))


def exponent(terms: Sequence[Term], p: Fraction, q: Fraction = Fraction(0)) -> Fraction:
    """The power of r at gamma ~ r**-p and lr ~ r**q."""
    return max(b - a * p + c * q for a, b, c in terms)


def stable_powers(terms: Sequence[Term]) -> Zeros:
    """Where max(b - a p) over the terms is zero: a convex function of p that never rises, since no a is negative."""
    flat = max((b for a, b, _ in terms if a == 0), default=None)
    falling = [(a, b) for a, b, _ in terms if a > 0]
    if len(falling) + sum(a == 0 for a, _, _ in terms) < len(terms):
        raise InputError("a term with a negative power of gamma: this is our bug")
    if flat is not None and flat > 0:
        return None
    last = max((b / a for a, b in falling), default=None)  # from here on no falling term is above zero
    if flat == 0:
        return (last, None)
    return None if last is None else (last, last)
