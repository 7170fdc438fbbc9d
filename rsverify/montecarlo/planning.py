"""The design of a sample: draws per rank from a pilot, within the budget, or the price of what is out of reach."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rsverify.errors import BudgetError
from rsverify.montecarlo.budget import Budget
from rsverify.montecarlo.curve import magnitude
from rsverify.montecarlo.exponent import predicted_error
from rsverify.statistics.design import LEAST_DRAWS, RATIO_MARGIN, SHARE, draws_for_half_width, draws_for_tail
from rsverify.statistics.intervals import normal_quantile


@dataclass(frozen=True)
class Pilot:
    """A first look at one rank: numbers per draw, entries of the factors of one draw, seconds per draw."""

    rank: int
    values: np.ndarray
    entries: int
    seconds: float


def plan(
    pilots: Sequence[Pilot], *, statistic: str, level: float, width: int, target: float, budget: Budget, insist: bool
) -> tuple[list[int], tuple[str, ...]]:
    """Draws per rank, and notes where the budget allows less than the design.

    Args: target is the half-width wanted of the exponent; insist says that less must be refused.
    Raises: BudgetError with what it would take, before it is spent.
    """
    ranks = [p.rank for p in pilots]
    spreads = np.asarray([magnitude(p.rank, p.values, statistic).spread for p in pilots])
    spreads = np.where(np.isfinite(spreads), spreads, 1e6)
    wanted = [
        max(draws_for_half_width(float(s), SHARE * RATIO_MARGIN, level), draws_for_tail(p.values, level))
        for s, p in zip(spreads, pilots, strict=True)
    ]
    cap = math.inf if budget.entries is None else budget.entries / len(pilots)
    total = math.inf if budget.draws is None else budget.draws / len(pilots)
    draws = [max(LEAST_DRAWS, int(min(n, cap / p.entries, total))) for n, p in zip(wanted, pilots, strict=True)]
    notes: list[str] = []
    short = [(p.rank, n) for p, n, m in zip(pilots, wanted, draws, strict=True) if m < n]
    if short:
        rank, n = short[-1]
        notes.append(f"points from rank {short[0][0]} to {rank} are wider than 2 %: rank {rank} would take {n:.3g} draws")
    half = normal_quantile(level) * predicted_error(ranks, spreads / np.sqrt(draws), width=width)
    more = (half / target) ** 2
    if more > 1:
        scaled = [math.ceil(n * more) for n in draws]
        excess = _excess(scaled, pilots, budget)
        if excess and insist:
            unit, needed, allowed = excess
            raise BudgetError(
                f"an exponent to +-{target:g} at level {level:.10g} takes about {needed:.3g} {unit}; {allowed:.3g} are allowed. "
                f"Raise Budget({unit}=...) or ask for less precision",
                needed=needed, allowed=allowed, unit=unit,
            )  # fmt: skip
        if excess:
            unit, needed, allowed = excess
            notes.append(f"the exponent's half-width will be about {half:.2g}, not {target:.2g}: that would take {needed:.3g} {unit}")
        else:
            draws = scaled
    seconds = sum(n * p.seconds for n, p in zip(draws, pilots, strict=True) if n > len(p.values))
    if budget.seconds is not None and seconds > budget.seconds:
        raise BudgetError(
            f"the sample would take about {seconds:.3g} seconds, {budget.seconds:.3g} are allowed; "
            "leave out ranks or raise Budget(seconds=...)",
            needed=seconds, allowed=budget.seconds, unit="seconds",
        )  # fmt: skip
    return draws, tuple(notes)


def _excess(draws: Sequence[int], pilots: Sequence[Pilot], budget: Budget) -> tuple[str, float, float] | None:
    spent: dict[str, tuple[float, float | None]] = {
        "draws": (sum(draws), budget.draws),
        "entries": (sum(n * p.entries for n, p in zip(draws, pilots, strict=True)), budget.entries),
        "seconds": (sum(n * p.seconds for n, p in zip(draws, pilots, strict=True)), budget.seconds),
    }
    return next(((unit, needed, allowed) for unit, (needed, allowed) in spent.items() if allowed is not None and needed > allowed), None)
