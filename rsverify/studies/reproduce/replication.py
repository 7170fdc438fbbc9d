"""How probably a fresh run of the same design would give the same answer."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rsverify.errors import InputError
from rsverify.statistics.intervals import student_quantile
from rsverify.statistics.streams import stream

DRAWS = 20_000
"""Of the predictive law: a probability of 0.95 is found to within 0.003 (two standard errors)."""


def probability_inside(
    mean: float, deviation: float, count: int, *, repeats: Sequence[int], region: tuple[float, float], level: float
) -> tuple[float, float]:
    """Predicted probability that every repeat of a fresh run lies inside a region, and that every one lies outside, by its own interval.

    What was seen are `count` independent normal values of this mean and standard deviation; mean and variance of the law behind them are
    uncertain and drawn from Student's posterior (flat in the mean and in the logarithm of the variance). Of each fresh repeat, of so many
    values, Student's interval at `level` must lie wholly within the region, or wholly outside it on one side.

    Raises: InputError for fewer than two values, seen or in a repeat.
    """
    if count < 2 or not repeats or min(repeats) < 2:
        raise InputError(f"values={count}, repeats={tuple(repeats)}; expected at least two values each: an interval needs two")
    low, high = region
    draw = stream(0, "replication", count, *repeats)
    spread = deviation * np.sqrt((count - 1) / draw.chisquare(count - 1, DRAWS))
    centre = mean + spread * draw.standard_normal(DRAWS) / math.sqrt(count)
    inside, below, above = (np.ones(DRAWS, dtype=bool) for _ in range(3))
    for size in repeats:
        middle = centre + spread * draw.standard_normal(DRAWS) / math.sqrt(size)
        half = student_quantile(level, size - 1) * spread * np.sqrt(draw.chisquare(size - 1, DRAWS) / (size - 1) / size)
        inside &= (low < middle - half) & (middle + half < high)
        below &= middle + half <= low
        above &= middle - half >= high
    return float(inside.mean()), float((below | above).mean())
