"""Rules that are wrong in ways in which rules go wrong, to see that a test finds them: each is right somewhere.

Eight kinds: right at powers of two alone, another power from some rank on, rounded, clipped, off by one, divided as whole numbers, deaf to
alpha, the rank rounded up to a power of two.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from rsverify.definitions.rules import ScalingRule, as_rule

Fault = Callable[[ScalingRule, int, float, int], float]
"""Value at (rank, alpha) of a rule with a fault of a size k."""


def _powers_of_two(right: ScalingRule, r: int, alpha: float, k: int) -> float:
    return right.gamma(r, alpha) if r & (r - 1) == 0 else right.gamma(r, alpha) / r ** (1 / (k + 1))


def _piecewise(right: ScalingRule, r: int, alpha: float, k: int) -> float:
    return right.gamma(r, alpha) if r < 4 * k else right.gamma(r, alpha) * math.sqrt(4 * k / r) / 1.5


def _rounded(right: ScalingRule, r: int, alpha: float, k: int) -> float:
    return max(round(right.gamma(r, alpha), 1 - min(k, 2)), 0.5)


def _clipped(right: ScalingRule, r: int, alpha: float, k: int) -> float:
    return max(right.gamma(r, alpha), alpha / (8 * k + 1))


def _off_by_one(right: ScalingRule, r: int, alpha: float, k: int) -> float:
    return right.gamma(r + k, alpha)


def _whole_numbers(right: ScalingRule, r: int, alpha: float, k: int) -> float:
    return max(float(right.gamma(r, alpha) // 1), 1 / (k + 1))


def _deaf(right: ScalingRule, r: int, alpha: float, k: int) -> float:
    return right.gamma(r, 20.0 + k)


def _rank_rounded(right: ScalingRule, r: int, alpha: float, k: int) -> float:
    return right.gamma(1 << (r - 1).bit_length(), alpha)


FAULTS: dict[str, Fault] = {
    "right at powers of two": _powers_of_two,
    "piecewise": _piecewise,
    "rounded": _rounded,
    "clipped": _clipped,
    "off by one": _off_by_one,
    "divided as whole numbers": _whole_numbers,
    "deaf to alpha": _deaf,
    "rank rounded to a power of two": _rank_rounded,
}
"""By name."""


@dataclass(frozen=True)
class BrokenRule:
    """A callable rule with a fault: what it should be, the fault's name and its size, a small whole number."""

    right: str
    fault: str
    size: int = 1

    @property
    def __name__(self) -> str:
        return f"{self.right}, {self.fault} ({self.size})"

    def __call__(self, r: int, alpha: float) -> float:
        return FAULTS[self.fault](as_rule(self.right), r, alpha, self.size)
