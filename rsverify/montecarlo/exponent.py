"""The exponent of the limit from a curve at finite ranks, its statistical and its systematic error.

A law such as E q**2 = r**2 + 2 r has no straight log-log line: ordinary least squares over 4..65536 is off by 0.02 to
0.04 however many draws. Where the finite-rank law is known it is taken out: what is left is a line, and nothing is
extrapolated. Elsewhere the line gets a correction term c/r, points weigh by their errors, ranks well above the widths are
read where there are enough of them (corrections also go as d/r), and what another reading would have said is added to
the interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rsverify.errors import InputError
from rsverify.montecarlo.curve import KnownCurve, Magnitude, influences, magnitude
from rsverify.statistics.intervals import student_quantile
from rsverify.statistics.regression import generalised, growth_curve_freedom, weighted

ROUNDING = 1e-13  # relative; no point weighs as if it were better known than float64 allows
WELL_ABOVE = 8  # ranks from 8 widths on: the next correction there, (d/r)**2 / 4, is below 0.004
ENOUGH = 5
REMAINDER = 2.0
"""Systematic error over the shift to the next reading: if each further reading shifts at most half as far, what all of
them shift together is at most twice the first (a geometric series of ratio 1/2)."""


@dataclass(frozen=True)
class Fit:
    """Exponent with its standard error, the degrees of freedom of that error, and the systematic error.

    The exponent is sum c log value over the ranks `used`, c the `coefficients`. `residuals` are those of the logarithms about
    the fitted line, where a known curve was taken out.
    """

    exponent: float
    error: float
    freedom: float
    systematic: float
    used: tuple[int, ...]
    coefficients: tuple[float, ...] = ()
    residuals: tuple[float, ...] = ()

    def half_width(self, level: float) -> float:
        """Of the statistical part alone."""
        return student_quantile(level, max(1.0, self.freedom)) * self.error

    def interval(self, level: float) -> tuple[float, float]:
        half = self.half_width(level) + self.systematic
        return self.exponent - half, self.exponent + half


def design_matrix(ranks: Sequence[int], corrections: int) -> np.ndarray:
    """Columns 1, log r, r**-1, ..., r**-corrections, ranks in units of the smallest.

    Shapes: (ranks, 2 + corrections).
    """
    r = np.asarray([float(rank) for rank in ranks])
    return np.stack([np.ones_like(r), np.log(r), *((r.min() / r) ** k for k in range(1, corrections + 1))], axis=1)


def coefficients(ranks: Sequence[int], errors: np.ndarray, corrections: int) -> np.ndarray:
    """The c with exponent = sum c_j log value_j, of the weighted least-squares fit a + e log r + sum_k c_k / r**k."""
    return weighted(design_matrix(ranks, corrections), np.maximum(errors, ROUNDING))[1]


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


def fit_exponent(
    magnitudes: Sequence[Magnitude], *, width: int = 1, known: KnownCurve | None = None, weights: Sequence[float] | np.ndarray | None = None
) -> Fit:
    """The exponent of |value| in r as r grows, from draws independent between ranks.

    Args: width is the largest size that r must outgrow before its power shows; known is the finite-rank law to take out;
        weights are the standard errors to weigh by, where they are known better than from these draws (the interval is made
        from the draws in any case). Raises: InputError for fewer than two ranks.
    """
    _enough([m.rank for m in magnitudes])
    chosen = range(len(magnitudes)) if known else window([m.rank for m in magnitudes], width)
    used = [magnitudes[k] for k in chosen]
    ranks = [m.rank for m in used]
    logs = np.log([abs(m.value) for m in used]) - [m.bias for m in used]
    errors = np.maximum([m.log_error for m in used], ROUNDING)
    by = errors if weights is None else np.maximum([weights[k] for k in chosen], ROUNDING)
    if known is not None:
        logs = logs - np.log(np.abs([known.values[k] for k in chosen]))
    terms, others = (0, []) if known else readings(len(ranks))
    c = coefficients(ranks, by, terms)
    parts = (c * errors) ** 2
    exponent, variance = float(c @ logs), float(parts.sum())
    # Satterthwaite: each error is itself estimated from its rank's draws.
    freedom = variance**2 / float((parts**2 / [m.draws - 1 for m in used]).sum())
    if known is not None:
        left = logs - design_matrix(ranks, 0) @ (weighted(design_matrix(ranks, 0), by) @ logs)
        return Fit(known.exponent + exponent, variance**0.5, freedom, 0.0, tuple(ranks), tuple(c.tolist()), tuple(left.tolist()))
    shifts = [abs(float(coefficients(ranks[drop:], by[drop:], k) @ logs[drop:]) - exponent) for k, drop in others]
    return Fit(exponent, variance**0.5, freedom, _systematic(ranks, shifts), tuple(ranks), tuple(c.tolist()))


def fit_shared(ranks: Sequence[int], values: np.ndarray, statistic: str, *, width: int = 1, known: KnownCurve | None = None) -> Fit:
    """As `fit_exponent`, from draws that the ranks share: their errors are correlated, and the covariance is estimated.

    In words: generalised least squares where the draws are enough to know the covariance (four times the ranks), else the
    weights of independent ranks; in both, the error comes from each draw's own slope, right whatever the correlation.

    Shapes: values (draws, ranks), the same draw in a row.
    """
    _enough(ranks)
    if values.ndim != 2 or values.shape[1] != len(ranks):
        raise InputError(f"values of shape {values.shape}; expected (draws, {len(ranks)}), a column for each rank")
    chosen = list(range(len(ranks))) if known else list(window(ranks, width))
    used, values = [ranks[k] for k in chosen], values[:, chosen]
    points = [magnitude(rank, column, statistic) for rank, column in zip(used, values.T, strict=True)]
    logs = np.log([abs(m.value) for m in points]) - [m.bias for m in points]
    corrected = logs if known is None else logs - np.log(np.abs([known.values[k] for k in chosen]))
    fit = fit_influences(used, corrected, influences(values, statistic), corrections=known is None)
    return fit if known is None else replace(fit, exponent=known.exponent + fit.exponent)


def fit_influences(ranks: Sequence[int], logs: np.ndarray, each: np.ndarray, *, corrections: bool) -> Fit:
    """The slope of logarithms of which each draw's influence is known, shared between ranks.

    Shapes: logs (ranks,), each (draws, ranks).
    """
    terms, others = readings(len(ranks)) if corrections else (0, [])
    n = len(each)
    spread = each.std(axis=0, ddof=1)
    # Where the noise has cancelled to rounding there is no covariance to weigh by.
    general = n >= 4 * len(ranks) and float(spread.min()) > ROUNDING * n

    def slope(count: int, drop: int) -> np.ndarray:
        columns, part = design_matrix(ranks[drop:], count), each[:, drop:]
        if general:
            return generalised(columns, np.atleast_2d(np.cov(part, rowvar=False)) / n)[1]
        return weighted(columns, np.maximum(spread[drop:], ROUNDING * n))[1]

    c = slope(terms, 0)
    exponent, error, freedom = float(c @ logs), float((each @ c).std(ddof=1)) / n**0.5, float(n - 1)
    if general and len(ranks) > 2 + terms:
        freedom, factor = growth_curve_freedom(n, len(ranks), 2 + terms)
        error *= factor
    shifts = [abs(float(slope(k, drop) @ logs[drop:]) - exponent) for k, drop in others]
    systematic = _systematic(ranks, shifts) if corrections else 0.0
    return Fit(exponent, error, freedom, systematic, tuple(ranks), tuple(c.tolist()))


def _systematic(ranks: Sequence[int], shifts: Sequence[float]) -> float:
    if not shifts:  # two ranks: nothing to compare with; a correction 1 + 1/r, as of E q**2 = r**2 + 2 r, is allowed for
        shifts = [float(abs(np.log1p(1 / ranks[1]) - np.log1p(1 / ranks[0])) / np.log(ranks[1] / ranks[0]))]
    return REMAINDER * max(shifts)


def _enough(ranks: Sequence[int]) -> None:
    if len(ranks) < 2:
        raise InputError("ranks: an exponent needs at least two ranks")


def predicted_error(ranks: Sequence[int], errors: np.ndarray, *, width: int = 1, known: bool = False) -> np.ndarray:
    """What each rank will contribute to the exponent's standard error (their root sum of squares), from errors planned.

    Shapes: (ranks,), zero at ranks that the exponent is not read from.
    """
    chosen = list(range(len(ranks))) if known else list(window(ranks, width))
    errors = np.maximum(np.asarray(errors, dtype=np.float64)[chosen], ROUNDING)
    c = coefficients([ranks[k] for k in chosen], errors, 0 if known else readings(len(chosen))[0])
    found = np.zeros(len(ranks))
    found[chosen] = np.abs(c) * errors
    return found
