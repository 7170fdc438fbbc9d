"""Intervals of means, of log means and of straight lines, at any level, without scipy (scipy.stats alone costs 0.7 s to load)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rsverify.errors import InputError
from rsverify.statistics.special import normal_upper, student_upper

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
