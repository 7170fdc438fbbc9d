"""From a magnitude in symbols to the power of the rank under a rule."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from rsverify.errors import NotDerivable
from rsverify.records import Claim
from rsverify.symbolic.answers.leading import Terms, leading_exponent, rank_terms, width_power
from rsverify.symbolic.steps import epsilon
from rsverify.symbolic.steps.magnitude import Magnitude


def terms_of(found: Magnitude, claim: Claim, *, upper: bool = False) -> Terms:
    """The terms of a magnitude (of its square, where it is one) by powers (a, b, c) of gamma, r and lr; of its upper bound if asked."""
    value = found.upper if upper and found.upper is not None else found.value
    return rank_terms(value, cosine=claim.cosine, regime=claim.regime, adapter=found.adapter)


def entry_exponents(found: Magnitude, claim: Claim, p: Fraction) -> list[Fraction]:
    """The powers of r of the gradient entries' mean squares over epsilon's."""
    terms = (rank_terms(entry, cosine=1.0, regime=claim.regime, adapter=found.adapter) for entry in found.entries)
    return [Fraction(0) if (power := leading_exponent(each, p)) is None else power for each in terms]


def settled(found: Magnitude, claim: Claim, p: Fraction) -> Magnitude:
    """The one regime that holds at every rank, where a gradient's entries are far below epsilon at every rank; else both, as they were."""
    if found.large is None or not epsilon.is_small(found, entry_exponents(found, claim, p), p):
        return found
    return replace(found, large=None)


def exponent_range(found: Magnitude, claim: Claim, p: Fraction) -> tuple[Fraction, Fraction] | None:
    """Between which powers of r the magnitude grows under gamma ~ r**-p, equal where it is known; None where it vanishes.

    Raises: NotDerivable where bounds from below and above say nothing of the power.
    """
    refuse_incomparable(found, claim)
    low = leading_exponent(terms_of(found, claim), p)
    if low is None:
        return None
    high = leading_exponent(terms_of(found, claim, upper=True), p)
    assert high is not None and high >= low, "a lower bound above the upper one: this is our bug"
    ends = [low / found.root, high / found.root]
    if found.large is not None:
        ends += exponent_range(found.large, claim, p) or ()
    return min(ends), max(ends)


def refuse_incomparable(found: Magnitude, claim: Claim) -> None:
    """Refuse bounds that say nothing of the power of r.

    Raises: NotDerivable where they differ by powers of a width that goes to infinity, or where the rank cannot grow at fixed widths.
    """
    if found.upper is None or found.value == 0:
        return
    if claim.regime == "width":
        below, above = (width_power(value, cosine=claim.cosine, adapter=found.adapter) for value in (found.value, found.upper))
        if below != above:
            raise NotDerivable(
                "with the widths grown first, what is known from below and from above differs by a power of the width, which leaves that"
                " of r open; ask for regime='rank'"
            )
        return
    low, high = (leading_exponent(terms_of(found, claim, upper=upper), Fraction(0)) for upper in (False, True))
    if low is not None and high is not None and high < low:
        raise NotDerivable(
            f"the rank of {found.adapter.expression if found.adapter else 'this adapter'!r} cannot outgrow the widths (an axis would have"
            " less than one entry); ask for regime='width'"
        )
