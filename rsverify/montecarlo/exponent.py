"""The exponent of the limit from a curve at finite ranks, its statistical and its systematic error.

A law such as E q**2 = r**2 + 2 r has no straight log-log line: ordinary least squares over 4..65536 is off by 0.02 to
0.04 however many draws. So the line gets a correction term c/r, points weigh by their known errors, ranks well above
the widths are read where there are enough of them (corrections also go as d/r), and what another reading would have said
is added to the interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rsverify.errors import InputError
from rsverify.montecarlo.curve import Magnitude
from rsverify.statistics.intervals import student_quantile

ROUNDING = 1e-13  # relative; no point weighs as if it were better known than float64 allows
WELL_ABOVE = 8  # ranks from 8 widths on: the next correction there, (d/r)**2 / 4, is below 0.004
ENOUGH = 5
REMAINDER = 2.0
"""Systematic error over the shift to the next reading: if each further reading shifts at most half as far, what all of
them shift together is at most twice the first (a geometric series of ratio 1/2)."""


@dataclass(frozen=True)
class Fit:
    """Exponent with its standard error, the degrees of freedom of that error, and the systematic error."""

    exponent: float
    error: float
    freedom: float
    systematic: float
    used: tuple[int, ...]

    def interval(self, level: float) -> tuple[float, float]:
        half = student_quantile(level, max(1.0, self.freedom)) * self.error + self.systematic
        return self.exponent - half, self.exponent + half


def coefficients(ranks: Sequence[int], errors: np.ndarray, corrections: int) -> np.ndarray:
    """The c with exponent = sum c_j log value_j, of the weighted least-squares fit a + e log r + sum_k c_k / r**k."""
    r = np.asarray([float(rank) for rank in ranks])
    columns = np.stack([np.ones_like(r), np.log(r), *((r.min() / r) ** k for k in range(1, corrections + 1))], axis=1)
    weights = 1 / np.maximum(errors, ROUNDING)
    return np.linalg.pinv(columns * weights[:, None], rcond=1e-14)[1] * weights


def window(ranks: Sequence[int], width: int) -> tuple[int, ...]:
    """Positions of the ranks that the exponent is read from: those well above the widths where enough are, else all."""
    above = tuple(k for k, rank in enumerate(ranks) if rank >= WELL_ABOVE * width)
    return above if len(above) >= ENOUGH else tuple(range(len(ranks)))


def readings(count: int) -> tuple[int, list[tuple[int, int]]]:
    """Correction terms of the main fit over `count` ranks, and (terms, smallest ranks dropped) of the other readings."""
    if count < 3:
        return 0, []
    if count == 3:
        return 1, [(0, 0)]
    others = [(2, 0)] + ([(1, max(1, count // 4))] if count - max(1, count // 4) >= 4 else [])
    return 1, others


def fit_exponent(magnitudes: Sequence[Magnitude], *, width: int = 1) -> Fit:
    """The exponent of |value| in r as r grows, from draws independent between ranks.

    Args: width is the largest size that r must outgrow before its power shows. Raises: InputError for fewer than two ranks.
    """
    if len(magnitudes) < 2:
        raise InputError("ranks: an exponent needs at least two ranks")
    chosen = [magnitudes[k] for k in window([m.rank for m in magnitudes], width)]
    ranks = [m.rank for m in chosen]
    logs = np.log([abs(m.value) for m in chosen])
    errors = np.maximum([m.log_error for m in chosen], ROUNDING)
    terms, others = readings(len(ranks))
    c = coefficients(ranks, errors, terms)
    parts = (c * errors) ** 2
    exponent, variance = float(c @ logs), float(parts.sum())
    # Satterthwaite: each error is itself estimated from its rank's draws.
    freedom = variance**2 / float((parts**2 / [m.draws - 1 for m in chosen]).sum())
    shifts = [
        abs(float(coefficients(ranks[drop:], errors[drop:], k) @ logs[drop:]) - exponent) for k, drop in others
    ]  # fmt: skip
    if not others:  # two ranks: nothing to compare with; a correction 1 + 1/r, as of E q**2 = r**2 + 2 r, is allowed for
        shifts = [float(abs(np.log1p(1 / ranks[1]) - np.log1p(1 / ranks[0])) / np.log(ranks[1] / ranks[0]))]
    return Fit(exponent, variance**0.5, freedom, REMAINDER * max(shifts), tuple(ranks))


def predicted_error(ranks: Sequence[int], errors: np.ndarray, *, width: int = 1) -> float:
    """The standard error that the main fit will have, from the errors planned at each rank."""
    chosen = window(ranks, width)
    errors = np.maximum(np.asarray(errors)[list(chosen)], ROUNDING)
    c = coefficients([ranks[k] for k in chosen], errors, readings(len(chosen))[0])
    return float(np.sqrt(((c * errors) ** 2).sum()))
