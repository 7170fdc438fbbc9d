"""How many draws a statement needs, from its margin and its error rates.

In words: a statement "magnitude within margin of m" is settled by an interval of half-width h and level 1 - false_fail.
It fails falsely when the interval misses the truth: rate false_fail, by construction. A truth off by twice the margin
passes falsely only if the estimate is wrong by at least margin + h, which is (margin + h) / h half-widths: at h = 0.4
margin that is 3.5 half-widths, so the rate is far below false_fail. A truth at m is confirmed unless the estimate is off
by margin - h = 1.5 half-widths: that too is rarer than false_fail.

The normal law of a mean of n skewed draws has a relative tail error of about skew z**3 / (6 sqrt(n)) (Cramer): n is
raised until that is below log(2), so that a declared rate is right within a factor of two even at 1e-8.
Source: Cramer 1938; Feller vol. II, XVI.7.
"""

from __future__ import annotations

import math

import numpy as np

from rsverify.statistics.intervals import normal_quantile, student_quantile
from rsverify.statistics.special import normal_tail

LEAST_DRAWS = 32
"""Fewer make Student's quantiles at 1 - 1e-6 and beyond several times the normal's."""

FEWEST_DRAWS = 12
"""At a rank of so small a spread that these, Student's quantile paid, know the point: its number is itself a mean over channels."""

SHARE = 0.4
"""Half-width over margin: below 1/2 an on-target estimate has room for 1.5 half-widths of error."""

RATIO_MARGIN = 0.05


def draws_for_half_width(spread: float, half: float, level: float, *, least: int = LEAST_DRAWS) -> int:
    """Draws for which Student's interval of a mean, of per-draw standard deviation `spread`, has half-width `half`."""
    if spread == 0:
        return least
    n = max(least, math.ceil((normal_quantile(level) * spread / half) ** 2))
    # Student's quantile exceeds the normal's by little from 32 draws: it falls as n grows, so one more pass is enough.
    return max(n, math.ceil((student_quantile(level, n - 1) * spread / half) ** 2))


def least_draws(spread: float, level: float) -> int:
    """The fewest draws that a rank of this spread may have: 32, or fewer where those already know the point to 2 %."""
    for n in range(FEWEST_DRAWS, LEAST_DRAWS):
        if student_quantile(level, n - 1) * spread <= SHARE * RATIO_MARGIN * math.sqrt(n):
            return n
    return LEAST_DRAWS


def excess_skew(values: np.ndarray) -> float:
    """The skewness of the values beyond the error of its own estimate, 3 sqrt(6 / n): less is no evidence of a skew."""
    centred = values - values.mean()
    spread = math.sqrt(float((centred**2).mean()))
    if spread == 0:
        return 0.0
    return max(0.0, abs(float((centred**3).mean())) / spread**3 - 3 * math.sqrt(6 / len(values)))


def tolerable_skew(level: float) -> float:
    """The skewness of an estimate up to which its declared rate is right within a factor of two."""
    return 6 * math.log(2) / normal_quantile(level) ** 3


def draws_for_tail(values: np.ndarray, level: float) -> int:
    """Draws for which the skewness of the values disturbs the level of their mean by less than a factor of two."""
    return max(1, math.ceil((excess_skew(values) / tolerable_skew(level)) ** 2))


def false_pass_rate(level: float, *, half: float, margin: float, off: float) -> float:
    """Bound on the rate at which a truth `off` from the target is still confirmed within `margin`, by an interval of half-width `half`."""
    return normal_tail((off - margin + half) / half * normal_quantile(level))
