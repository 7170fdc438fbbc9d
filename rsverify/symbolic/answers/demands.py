"""Several quantities at once: which of their demands on the rule agree, and which contradict each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations

from rsverify.records import StableScaling

Range = tuple[Fraction | None, Fraction | None]
"""From, to; None = without end."""


@dataclass(frozen=True)
class Demands:
    """What several stable scalings ask together.

    Args: common is the range of rule exponents that suits all, None where there is none; contradictions are the pairs of places
        whose ranges do not meet.
    """

    common: Range | None
    contradictions: tuple[tuple[int, int], ...]


def stable_range(found: StableScaling) -> Range | None:
    """The rule exponents at which one quantity is stable, None where there is none."""
    if found.status == "none":
        return None
    if found.status == "any":
        return (None, None)
    return found.rule_interval if found.status == "interval" else (found.rule_exponent, found.rule_exponent)


def together(solved: Sequence[StableScaling]) -> Demands:
    """Whether one rule can keep all of them stable at a learning rate free of the rank."""
    ranges = [stable_range(found) for found in solved]
    common: Range | None = (None, None)
    for one in ranges:
        common = _meet(common, one)
    pairs = tuple((i, j) for (i, a), (j, b) in combinations(enumerate(ranges), 2) if _meet(a, b) is None)
    return Demands(common, pairs)


def _meet(one: Range | None, other: Range | None) -> Range | None:
    if one is None or other is None:
        return None
    lows = [end for end in (one[0], other[0]) if end is not None]
    highs = [end for end in (one[1], other[1]) if end is not None]
    low, high = max(lows, default=None), min(highs, default=None)
    return None if low is not None and high is not None and low > high else (low, high)
