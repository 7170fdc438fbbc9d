"""From numbers per draw to a magnitude with its interval at one rank."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from rsverify.records import Point
from rsverify.statistics.intervals import student_quantile


@dataclass(frozen=True)
class Magnitude:
    """A statistic at one rank: its value, the standard error of log |value|, and the spread of one draw on that scale."""

    rank: int
    value: float
    log_error: float
    spread: float
    draws: int

    def point(self, level: float) -> Point:
        """The value with its Student interval; both ends share the sign unless zero is not excluded."""
        half = student_quantile(level, self.draws - 1) * self.log_error
        if not math.isfinite(half):
            return Point(self.rank, self.value, -math.inf, math.inf)
        if half >= 1:  # the delta method needs small relative errors; beyond, only the mean's own interval is honest
            return Point(self.rank, self.value, self.value - half * abs(self.value), self.value + half * abs(self.value))
        ends = sorted((self.value * math.exp(-half), self.value * math.exp(half)))
        return Point(self.rank, self.value, ends[0], ends[1])


def magnitude(rank: int, values: np.ndarray, statistic: str) -> Magnitude:
    """The statistic of per-draw numbers: sqrt(mean) of squares, exp(mean) of logs, mean of signed components.

    Errors by the delta method: d log sqrt(m) = dm / (2 m), d log |m| = dm / |m|.
    """
    n, mean, deviation = len(values), float(values.mean()), float(values.std(ddof=1))
    if statistic == "log":
        value, spread = math.exp(mean), deviation
    elif statistic == "projection":
        value, spread = mean, deviation / abs(mean) if mean else math.inf
    else:
        value, spread = math.sqrt(mean), deviation / (2 * mean) if mean else math.inf
    return Magnitude(rank, value, spread / math.sqrt(n), spread, n)
