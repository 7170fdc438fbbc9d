"""The design of a sample: draws per rank from a pilot, within the budget, or the price of what is out of reach.

Two designs. Without a precision every point is designed for a half-width of 2 %, which the comparison with a curve needs,
and the exponent for 0.4 of the margin. With a precision the exponent alone is designed: draws go where they narrow it most
for their cost, n proportional to |c| spread / sqrt(cost) at each rank (Lagrange), c the coefficients of the fit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rsverify.errors import BudgetError
from rsverify.montecarlo.budget import Budget
from rsverify.montecarlo.curve import magnitude
from rsverify.montecarlo.exponent import predicted_error
from rsverify.statistics.design import (
    LEAST_DRAWS,
    RATIO_MARGIN,
    SHARE,
    draws_for_half_width,
    draws_for_tail,
    excess_skew,
    least_draws,
    tolerable_skew,
)
from rsverify.statistics.intervals import student_quantile

SMOOTHED = 5
"""Ranks from which on the pilot's spreads are smoothed over ranks: three numbers are then fitted to at least five."""
UNKNOWN = 1e6
"""Stands for a spread that is not finite."""


@dataclass(frozen=True)
class Pilot:
    """A first look at one rank: numbers per draw, entries that one draw costs, seconds per draw.

    Where a look would cost as much as the sample, `looked` is False: the values are then those of the largest rank looked at, in whose
    place they stand for their skewness; the spread is extrapolated.
    """

    rank: int
    values: np.ndarray
    entries: int
    seconds: float
    looked: bool = True

    @property
    def enough(self) -> int:
        """Draws that need not be made again: those of the look itself."""
        return len(self.values) if self.looked else 0


@dataclass(frozen=True)
class Aim:
    """What the draws are for.

    Args:
        target: half-width wanted of the exponent's statistical part; `asked` is that of the whole, as the user put it.
        insist: less must be refused.
        points: every point is to be known to 2 % as well.
        known: a finite-rank law is taken out of the fit.
        width: the largest size that r must outgrow before its power shows.
    """

    level: float
    target: float
    asked: float
    insist: bool
    points: bool
    known: bool = False
    width: int = 1


def spreads(pilots: Sequence[Pilot], statistic: str) -> np.ndarray:
    """The spread of one draw's log magnitude at each rank, smoothed over ranks where they are many: log spread is a parabola in log r.

    Smoothing keeps the weights from following the noise of the values that they weigh. Ranks that were not looked at follow the
    line of the last that were, never falling faster than r**-1/2: a mean over independent channels does not.
    """
    looked = [p for p in pilots if p.looked]
    seen = _smoothed(looked, statistic)
    beyond = [float(p.rank) for p in pilots if not p.looked]
    if not beyond:
        return seen
    last = seen[-SMOOTHED:]
    x = np.log([float(p.rank) for p in looked[-len(last) :]])
    falls = len(last) > 1 and (last > 0).all() and (last < UNKNOWN).all()
    slope = max(-0.5, float(np.polyfit(x, np.log(last), 1)[0])) if falls else 0.0
    return np.concatenate([seen, seen[-1] * (np.asarray(beyond) / looked[-1].rank) ** slope])


def _smoothed(pilots: Sequence[Pilot], statistic: str) -> np.ndarray:
    raw = np.asarray([magnitude(p.rank, p.values, statistic).spread for p in pilots])
    raw = np.where(np.isfinite(raw), raw, UNKNOWN)
    if len(pilots) < SMOOTHED or not (raw > 0).all() or not (raw < UNKNOWN).all():
        return raw
    x = np.log([float(p.rank) for p in pilots])
    x = (x - x.mean()) / np.ptp(x)
    # log of a deviation from n draws has standard error 1 / sqrt(2 n) for normal values.
    weights = np.sqrt([2.0 * len(p.values) for p in pilots])
    return np.exp(np.polyval(np.polyfit(x, np.log(raw), 2, w=weights), x))


def plan(pilots: Sequence[Pilot], spread: np.ndarray, *, aim: Aim, budget: Budget) -> tuple[list[int], tuple[str, ...]]:
    """Draws per rank, and notes where the budget allows less than the design.

    Raises: BudgetError with what it would take, before it is spent.
    """
    draws, notes = _for_points(pilots, spread, aim=aim, budget=budget) if aim.points else (_least(pilots, spread, aim), [])
    if _half(pilots, spread, draws, aim) > aim.target:
        wanted = _for_exponent(pilots, spread, draws, aim)
        over = excess(wanted, pilots, budget)
        if over and aim.insist:
            unit, needed, allowed = over
            raise BudgetError(
                f"an exponent to +-{aim.asked:.3g} at level {aim.level:.10g} takes about {needed:.3g} {unit}; {allowed:.3g} are allowed. "
                f"Raise Budget({unit}=...) or ask for less precision",
                needed=needed, allowed=allowed, unit=unit,
            )  # fmt: skip
        if over:
            unit, needed, allowed = over
            half = _half(pilots, spread, draws, aim)
            notes.append(f"the exponent's half-width will be about {half:.2g}, not {aim.target:.2g}: that would take {needed:.3g} {unit}")
        else:
            draws = wanted
    seconds = sum(n * p.seconds for n, p in zip(draws, pilots, strict=True) if n > p.enough)
    if budget.seconds is not None and seconds > budget.seconds:
        raise BudgetError(
            f"the sample would take about {seconds:.3g} seconds, {budget.seconds:.3g} are allowed; "
            "leave out ranks or raise Budget(seconds=...)",
            needed=seconds, allowed=budget.seconds, unit="seconds",
        )  # fmt: skip
    return draws, tuple(notes)


def _least(pilots: Sequence[Pilot], spread: np.ndarray, aim: Aim) -> list[int]:
    """What each rank has at least: 32 draws, which a look gives anyhow; fewer where one was spared and the spread is small."""
    return [LEAST_DRAWS if p.looked else least_draws(float(s), aim.level) for p, s in zip(pilots, spread, strict=True)]


def _for_points(pilots: Sequence[Pilot], spread: np.ndarray, *, aim: Aim, budget: Budget) -> tuple[list[int], list[str]]:
    least = _least(pilots, spread, aim)
    wanted = [
        max(draws_for_half_width(float(s), SHARE * RATIO_MARGIN, aim.level, least=n), draws_for_tail(p.values, aim.level))
        for s, p, n in zip(spread, pilots, least, strict=True)
    ]
    cap = math.inf if budget.entries is None else budget.entries / len(pilots)
    total = math.inf if budget.draws is None else budget.draws / len(pilots)
    draws = [max(low, int(min(n, cap / p.entries, total))) for low, n, p in zip(least, wanted, pilots, strict=True)]
    short = [(p.rank, n) for p, n, m in zip(pilots, wanted, draws, strict=True) if m < n]
    if not short:
        return draws, []
    rank, n = short[-1]
    return draws, [f"points from rank {short[0][0]} to {rank} are wider than 2 %: rank {rank} would take {n:.3g} draws"]


def _half(pilots: Sequence[Pilot], spread: np.ndarray, draws: Sequence[int], aim: Aim) -> float:
    """The exponent's half-width from these draws, Student's part included."""
    parts = predicted_error([p.rank for p in pilots], spread / np.sqrt(draws), width=aim.width, known=aim.known) ** 2
    variance = float(parts.sum())
    freedom = variance**2 / float((parts**2 / (np.asarray(draws) - 1)).sum()) if variance else 1.0
    return student_quantile(aim.level, max(1.0, freedom)) * math.sqrt(variance)


def _for_exponent(pilots: Sequence[Pilot], spread: np.ndarray, floor: Sequence[int], aim: Aim) -> list[int]:
    """The cheapest draws, none below the floor, that reach the target."""
    cost = np.asarray([float(p.entries) for p in pilots])
    share = 1 / np.sqrt(cost)
    for _ in range(8):  # the fit's coefficients and the draws that suit them settle together
        parts = predicted_error([p.rank for p in pilots], spread / np.sqrt(share), width=aim.width, known=aim.known)
        # parts = |c| spread / sqrt(share); halfway steps keep every rank in play until the coefficients have settled.
        best = np.sqrt(share) * parts / np.sqrt(cost)
        share = 0.5 * share / share.sum() + 0.5 * best / best.sum()
    least = np.asarray(floor, dtype=np.float64)
    skews = np.asarray([excess_skew(p.values) for p in pilots])

    def draws(scale: float) -> list[int]:
        return np.ceil(np.maximum(least, scale * share)).astype(np.int64).tolist()

    def enough(scale: float) -> bool:
        n = np.asarray(draws(scale))
        if _half(pilots, spread, n.tolist(), aim) > aim.target:
            return False
        # The third cumulant of sum c_k mean_k: what is skewed at one rank is averaged over all that the exponent is read from.
        parts = predicted_error([p.rank for p in pilots], spread / np.sqrt(n), width=aim.width, known=aim.known)
        skew = float((parts**3 * skews / np.sqrt(n)).sum()) / float((parts**2).sum()) ** 1.5
        return skew <= tolerable_skew(aim.level)

    low, high = 1.0, 2.0
    while not enough(high) and high < 1e18:
        low, high = high, high * 2
    for _ in range(12):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if enough(middle) else (middle, high)
    return draws(high)


def excess(draws: Sequence[int], pilots: Sequence[Pilot], budget: Budget, *, spent: int = 0) -> tuple[str, float, float] | None:
    """What of the budget these draws, after those spent, would exceed: (unit, needed, allowed); None where they fit."""
    costs: dict[str, tuple[float, float | None]] = {
        "draws": (sum(draws) + spent, budget.draws),
        "entries": (sum(n * p.entries for n, p in zip(draws, pilots, strict=True)), budget.entries),
        "seconds": (sum(n * p.seconds for n, p in zip(draws, pilots, strict=True)), budget.seconds),
    }
    return next(((unit, needed, allowed) for unit, (needed, allowed) in costs.items() if allowed is not None and needed > allowed), None)
