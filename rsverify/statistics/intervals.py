"""Intervals of means, of log means and of straight lines, at any level, without scipy (scipy.stats alone costs 0.7 s to load)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rsverify.errors import InputError
from rsverify.statistics.special import incomplete_beta, normal_upper, student_upper

Interval = tuple[float, float]


def student_quantile(level: float, freedom: float) -> float:
    """t with P(|T| <= t) = level for Student's law of `freedom` degrees."""
    if not 0 < level < 1 or freedom < 1:
        raise InputError(f"level={level}, degrees of freedom={freedom}; expected 0 < level < 1 and at least 1")
    return student_upper((1 - level) / 2, float(freedom))


def normal_quantile(level: float) -> float:
    """z with P(|Z| <= z) = level."""
    return normal_upper((1 - level) / 2)


def level_for(budget: float, statements: int) -> float:
    """Level of each interval so that all of a table's statements together fail falsely at most at rate `budget` (Bonferroni)."""
    return 1 - budget / max(1, statements)


def mean_interval(values: np.ndarray, level: float) -> tuple[float, Interval]:
    """Mean of independent values with its Student interval.

    Shapes: values (draws,).
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1:
        raise InputError(f"values of shape {values.shape}; expected one axis, the draws")
    n = len(values)
    if n < 2:
        raise InputError(f"draws={n}: an interval needs at least two")
    mean = float(values.mean())
    half = student_quantile(level, n - 1) * float(values.std(ddof=1)) / math.sqrt(n)
    return mean, (mean - half, mean + half)


def log_mean_interval(values: np.ndarray, level: float) -> tuple[float, Interval]:
    """log(mean(values)) of positive values with its interval, by the delta method on Student's scale.

    It is the log of a mean, not the mean of a log: the two differ by the values' own spread.
    """
    values = np.asarray(values, dtype=np.float64)
    mean, (_, hi) = mean_interval(values, level)
    if not mean > 0:
        raise InputError(f"mean={mean}: its logarithm does not exist; the quantity vanishes or changes sign")
    centre, half = math.log(mean), (hi - mean) / mean
    return centre, (centre - half, centre + half)


def share_interval(hits: int, trials: int, level: float) -> Interval:
    """Clopper and Pearson's interval of a rate: it covers at least as often as it says, for every rate.

    Source: Clopper and Pearson 1934, Biometrika 26: not seen; the ends solve the two binomial tails, tested against scipy.
    """
    if not (0 <= hits <= trials and trials > 0) or not 0 < level < 1:
        raise InputError(f"hits={hits}, trials={trials}, level={level}; expected 0 <= hits <= trials, at least one trial, 0 < level < 1")
    tail = (1 - level) / 2

    def solve(a: float, b: float, share: float) -> float:
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if incomplete_beta(a, b, middle) < share else (low, middle)
        return (low + high) / 2

    lower = 0.0 if hits == 0 else solve(hits, trials - hits + 1, tail)
    return lower, 1.0 if hits == trials else solve(hits + 1, trials - hits, 1 - tail)


def slope_weights(log_ranks: Sequence[float], weights: Sequence[float] | None = None) -> np.ndarray:
    """The coefficients c with slope = sum c_i y_i of the weighted least-squares line."""
    x = np.asarray(log_ranks, dtype=np.float64)
    w = np.ones_like(x) if weights is None else np.asarray(weights, dtype=np.float64)
    if len(x) < 2:
        raise InputError("ranks: an exponent needs at least two ranks")
    centred = x - (w @ x) / w.sum()
    if not w @ centred**2 > 0:
        raise InputError(f"log ranks={x.tolist()}, weights={w.tolist()}: a slope needs two different ranks of positive weight")
    return w * centred / (w @ centred**2)


def per_draw_slope(log_ranks: Sequence[float], log_values: np.ndarray, level: float) -> tuple[float, Interval]:
    """Slope of each draw's own curve, then Student over the draws: right whatever the correlation between ranks.

    Shapes: log_values (draws, ranks).
    """
    slopes = np.asarray(log_values, dtype=np.float64) @ slope_weights(log_ranks)
    return mean_interval(slopes, level)
