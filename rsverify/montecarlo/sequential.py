"""A run that looks as it goes: batches at every rank, one anytime-valid boundary, and a stop as soon as the answer is in.

In words: each round draws a fixed number at every rank. The exponent is a fixed combination sum_k c_k log value_k, so each
round has its own influence on it, of mean zero; they are independent and alike, and the boundary of `statistics.stopping`
over rounds holds at all of them at once. The coefficients c are fixed before the first round, from the pilot.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rsverify.montecarlo.budget import Budget
from rsverify.montecarlo.curve import KnownCurve, influences, magnitude
from rsverify.montecarlo.exponent import Fit, fit_exponent
from rsverify.montecarlo.planning import Aim, Pilot, plan
from rsverify.montecarlo.samplers import Sample
from rsverify.records import Point
from rsverify.statistics.stopping import Boundary

ROUNDS = 100
"""Rounds that the design spreads its draws over: many enough for the boundary's Student part to cost a few percent."""
FIRST = 8
"""Rounds before the first look: with fewer the boundary is infinite at any level of use."""
LONGEST = 64
"""A run is given up after so many times the rounds of its design; the price of going on is then told."""


@dataclass(frozen=True)
class Inquiry:
    """What a sequence is to settle: the exponent to a precision or, without one, its stability within the margin."""

    ranks: tuple[int, ...]
    statistic: str
    level: float
    width: int
    known: KnownCurve | None
    margin: float
    precision: float | None

    def room(self, fit: Fit) -> float:
        """How large the statistical half-width may be for the answer to be in; not positive where no draws can settle it."""
        if self.precision is not None:
            return self.precision - fit.systematic
        return abs(abs(fit.exponent) - self.margin) - fit.systematic


@dataclass(frozen=True)
class Ended:
    """Where a sequence stopped: what it says, its statistical half-width, rounds taken, remarks."""

    fit: Fit
    half: float
    curve: tuple[Point, ...]
    looks: int
    notes: tuple[str, ...]


def run_sequence(
    inquiry: Inquiry, pilots: Sequence[Pilot], spread: np.ndarray, aim: Aim, draw: Callable[[int, str, int], Sample], budget: Budget,
    report: Callable[[str, int, int], None],
) -> Ended:  # fmt: skip
    """Rounds until the answer is in or the budget is spent.

    Raises: BudgetError, before the first round, where the precision asked for is out of reach.
    """
    planned, notes = plan(pilots, spread, aim=replace(aim, points=False), budget=budget)
    each = [max(1, math.ceil(n / ROUNDS)) for n in planned]
    boundary = Boundary(1 - inquiry.level, ROUNDS)
    weights = spread / np.sqrt(each)
    most = _affordable(each, pilots, budget)
    rounds: list[list[np.ndarray]] = [[] for _ in inquiry.ranks]
    taken, look = 0, None
    while taken < most and (look is None or look.half > inquiry.room(look.fit)):
        # Student's part is infinite before a few rounds; a look costs a fit, so later ones are spaced by a twentieth.
        more = min(most - taken, FIRST if not taken else max(1, taken // 20))
        for held, rank, n in zip(rounds, inquiry.ranks, each, strict=True):
            held.append(draw(rank, f"rounds from {taken}", n * more).values.reshape(more, n))
        taken += more
        report(f"round {taken}, at most {most}", taken, most)
        look = _look(inquiry, rounds, weights, boundary)
    assert look is not None
    if look.half <= inquiry.room(look.fit):
        return replace(look, notes=notes)
    return replace(look, notes=(*notes, _price(inquiry, look, boundary, sum(each))))


def _affordable(each: Sequence[int], pilots: Sequence[Pilot], budget: Budget) -> int:
    cost = {
        "draws": (sum(each), budget.draws),
        "entries": (sum(n * p.entries for n, p in zip(each, pilots, strict=True)), budget.entries),
        "seconds": (sum(n * p.seconds for n, p in zip(each, pilots, strict=True)), budget.seconds),
    }
    bounds = [int(allowed / one) for one, allowed in cost.values() if allowed is not None and one > 0]
    return max(FIRST, min([ROUNDS * LONGEST, *bounds]))


def _look(inquiry: Inquiry, rounds: list[list[np.ndarray]], weights: np.ndarray, boundary: Boundary) -> Ended:
    values = [np.concatenate(held) for held in rounds]  # (rounds, draws of a round) at each rank
    taken = len(values[0])
    points = [magnitude(rank, v.ravel(), inquiry.statistic) for rank, v in zip(inquiry.ranks, values, strict=True)]
    # (rounds, ranks): how much each round moves each logarithm.
    moves = np.stack([influences(v.ravel(), inquiry.statistic).reshape(v.shape).mean(axis=1) for v in values], axis=1)
    halves = [boundary.half_width(taken, float(column.std(ddof=1))) for column in moves.T]
    known = inquiry.known
    fit = fit_exponent(points, width=inquiry.width, known=known, weights=weights)
    if known is not None and any(abs(left) > half for left, half in zip(fit.residuals, halves, strict=True)):
        fit = fit_exponent(points, width=inquiry.width, weights=weights)
    c = np.zeros(len(points))
    c[[inquiry.ranks.index(rank) for rank in fit.used]] = fit.coefficients
    half = boundary.half_width(taken, float((moves @ c).std(ddof=1)))
    curve = tuple(m.point_within(h) for m, h in zip(points, halves, strict=True))
    return Ended(fit, half, curve, taken, ())


def _price(inquiry: Inquiry, look: Ended, boundary: Boundary, per_round: int) -> str:
    room = inquiry.room(look.fit)
    what = f"+-{inquiry.precision:g}" if inquiry.precision is not None else f"a margin of {inquiry.margin:g}"
    if room <= 0:
        return f"inconclusive at {what}: more draws would not settle it, the systematic error or the exponent itself lies at the edge"
    spread = look.half / boundary.half_width(look.looks, 1.0) if math.isfinite(look.half) else 0.0
    rounds = boundary.reached(spread, room, start=look.looks)
    return f"inconclusive at {what}: some {rounds * per_round:.2g} draws in all would settle it, {look.looks * per_round:.2g} were taken"
