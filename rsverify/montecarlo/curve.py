"""From numbers per draw to a magnitude with its interval at one rank; and curves that are known, to be taken out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rsverify.errors import RsverifyError
from rsverify.records import Point
from rsverify.statistics.intervals import student_quantile

POWERS = {"rms": 0.5, "frobenius": 0.5, "projection": 1.0}
"""The statistic as a power of the mean of the numbers per draw; `log` is exp of their mean."""


@dataclass(frozen=True)
class Magnitude:
    """A statistic at one rank: its value, the standard error of log |value|, and the spread of one draw on that scale.

    `bias` is what E log |value| exceeds log |truth| by, to first order in 1/draws: a logarithm is concave.
    """

    rank: int
    value: float
    log_error: float
    spread: float
    draws: int
    bias: float = 0.0
    signed: bool = False

    def point(self, level: float) -> Point:
        """The value with its Student interval."""
        return self.point_within(student_quantile(level, self.draws - 1) * self.log_error)

    def point_within(self, half: float) -> Point:
        """The value with the interval of a half-width in log |value|; its ends share the value's sign unless zero is not excluded."""
        if not math.isfinite(half):
            return Point(self.rank, self.value, -math.inf if self.signed else 0.0, math.inf)
        if half >= 1:  # the delta method needs small relative errors; beyond, only the mean's own interval is honest
            reach = half * abs(self.value)
            return Point(self.rank, self.value, self.value - reach if self.signed else max(0.0, self.value - reach), self.value + reach)
        ends = sorted((self.value * math.exp(-half), self.value * math.exp(half)))
        return Point(self.rank, self.value, ends[0], ends[1])


def magnitude(rank: int, values: np.ndarray, statistic: str) -> Magnitude:
    """The statistic of per-draw numbers: sqrt(mean) of squares, exp(mean) of logs, mean of signed components.

    Errors by the delta method: d log |m|**p = p dm / m, and E log |m|**p = log |mu|**p - p var / (2 n mu**2).
    """
    n, mean, deviation = len(values), float(values.mean()), float(values.std(ddof=1))
    if statistic == "log":
        return Magnitude(rank, math.exp(mean), deviation / math.sqrt(n), deviation, n)
    power = POWERS[statistic]
    value = math.sqrt(mean) if power == 0.5 else mean
    spread = power * deviation / abs(mean) if mean else math.inf
    return Magnitude(rank, value, spread / math.sqrt(n), spread, n, -(spread**2) / (2 * power * n), power == 1.0)


def influences(values: np.ndarray, statistic: str) -> np.ndarray:
    """What each draw adds to log |value|, to first order: deviations of mean zero whose spread is that of Magnitude.

    Shapes: values (draws,) or (draws, ranks), one column a rank; the same shape returns.
    """
    mean = values.mean(axis=0)
    return values - mean if statistic == "log" else POWERS[statistic] * (values / mean - 1)


@dataclass(frozen=True)
class KnownCurve:
    """A finite-rank law that is known exactly: its values at the ranks, the exponent of its limit, and whose it is."""

    values: tuple[float, ...]
    exponent: float
    source: str


FAR = 60, 120
"""Powers of two at which a law's local exponent is taken for its limit: corrections in 1/sqrt(r) are below 1e-9 at the first."""


def limit_exponent(law: Callable[[int], float | None]) -> float | None:
    """The power of r that a law tends to, read at ranks beyond 2**60; None where it has none or overflows there."""
    found = []
    for k in FAR:
        try:
            here, there = law(2**k), law(2 ** (k + 1))
        except (RsverifyError, ArithmeticError):
            return None
        if here is None or there is None or not (0 < here < math.inf and 0 < there < math.inf):
            return None
        found.append(math.log2(there / here))
    # A logarithm in the law would move the local exponent by 1/60 - 1/120 or so between the two.
    return round(found[1], 9) + 0.0 if abs(found[1] - found[0]) < 1e-8 else None
