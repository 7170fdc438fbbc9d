"""A learning-rate sweep with its grid refined about each rank's optimum, and the optimum read off it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from rsverify.studies.reproduce.plan import Plan
from rsverify.studies.reproduce.runs import Family, Results
from rsverify.sweep import Cell

FINE = math.sqrt(2)
"""Step of the refined grid; the coarse one doubles."""


def at(family: Family, lr: float) -> Family:
    """The family at a learning rate, spelled with six digits: grids meet in the same number."""
    return replace(family, lr=float(f"{lr:.6g}"))


def coarse(plan: Plan, family: Family) -> list[float]:
    """Learning rates with which the sweep of the narrow ranks begins."""
    return [plan.rate(family.optimizer) * 2.0**k for k in plan.grid(family.rule, family.optimizer)]


def cells(plan: Plan, results: Results, families: Sequence[Family], *, wide: Sequence[int]) -> list[Cell]:
    """The coarse grid for all narrow ranks; then, at each rank, what lies beside its best so far, as often as the plan refines.

    Wide ranks begin about the best of the widest narrow rank, on the few seeds. All narrow ranks that ask for a learning rate in one round
    are one cell; families go their own ways, so that figures which share one share its cells. Last, the judged ranks are run at the rates
    found, on the seeds that had no part in finding them.
    """
    grid = [at(family, lr).cell(plan, plan.narrow, seed) for family in families for lr in coarse(plan, family) for seed in plan.swept_seeds]
    found = list(grid)
    if any(cell.key not in results.of_cell for cell in found):
        return found
    for family in families:
        mine: list[Cell] = []
        wanted: dict[tuple[int, float], list[int]] = {}
        for rank in plan.narrow:
            for turn, rates in enumerate(refined(plan, results, family, rank)):
                for lr in rates:
                    wanted.setdefault((turn, lr), []).append(rank)
        mine += [at(family, lr).cell(plan, ranks, seed) for (_, lr), ranks in wanted.items() for seed in plan.swept_seeds]
        if all(cell.key in results.of_cell for cell in mine):
            mine += confirming(plan, results, family)
        for rank in wide:
            rates = [*start(plan, results, family, rank), *(lr for turn in refined(plan, results, family, rank) for lr in turn)]
            mine += [at(family, lr).cell(plan, [rank], seed) for lr in rates for seed in plan.seeds_of(rank)]
        found += mine
    return found


def confirming(plan: Plan, results: Results, family: Family) -> list[Cell]:
    """The judged ranks on the seeds that no sweep used, at the rates at which `losses_at_best` judges them."""
    found = []
    for group in plan.groups:
        wanted: dict[float, list[int]] = {}
        for rank in plan.judged:
            wanted.setdefault(best_elsewhere(plan, results, family, rank, group), []).append(rank)
        for lr, ranks in wanted.items():
            # At the rate of the other figures these runs are theirs too, and there the judged ranks are one cell.
            together = plan.judged if lr == family.rate(plan) else ranks
            found += [at(family, lr).cell(plan, together, seed) for seed in group[plan.swept :]]
    return found


def start(plan: Plan, results: Results, family: Family, rank: int) -> list[float]:
    """Learning rates with which a rank's sweep begins: the coarse grid, for a wide one three about the best of the widest narrow rank."""
    grid = [at(family, lr).lr or 0.0 for lr in coarse(plan, family)]
    if rank not in plan.wide:
        return grid
    last = plan.narrow[-1]
    best = min(grid, key=lambda lr: mean_loss(results, at(family, lr), last, plan.seeds_of(last)))
    return [at(family, lr).lr or 0.0 for lr in (best / 2, best, best * 2)]


def refined(plan: Plan, results: Results, family: Family, rank: int) -> list[list[float]]:
    """Learning rates beyond those of the start, by round: each is decided by those before it alone, so that asking again gives the same."""
    known, seeds = start(plan, results, family, rank), plan.seeds_of(rank)
    rounds: list[list[float]] = []
    while len(rounds) < plan.rounds:
        if any(results.run(at(family, lr), rank, seed) is None for lr in known for seed in seeds):
            break
        best = min(known, key=lambda lr: mean_loss(results, at(family, lr), rank, seeds))
        inside = best not in (min(known), max(known))
        if inside and rank in plan.wide:
            break  # Octaves do for ranks that decide nothing: the widest cost as much as all narrow ones together.
        step = FINE if inside else 2.0
        # At an end the grid grows outwards; inside, both neighbours at half the distance.
        beside = [best / step] if best == min(known) else [best * step] if best == max(known) else [best / step, best * step]
        new = [lr for lr in (at(family, lr).lr or 0.0 for lr in beside) if not any(abs(math.log(lr / other)) < 0.01 for other in known)]
        if not new:
            break
        rounds.append(new)
        known = known + new
    return rounds


def mean_loss(results: Results, family: Family, rank: int, seeds: Sequence[int]) -> float:
    """The mean over these seeds; infinite where none was run."""
    losses = results.losses(family, rank)
    return float(np.mean([losses[seed] for seed in seeds])) if losses else math.inf


def best_rate(results: Results, family: Family, rank: int, seeds: Sequence[int]) -> float:
    """The learning rate of lowest mean loss over some seeds."""
    return min(results.rates(family, rank), key=lambda lr: mean_loss(results, at(family, lr), rank, seeds))


def at_an_end(plan: Plan, results: Results, family: Family, rank: int) -> bool:
    """Whether the best learning rate is the last one tried on its side, so that the optimum may lie beyond what was tried."""
    rates = results.rates(family, rank)
    return best_rate(results, family, rank, plan.seeds_of(rank)) in (rates[0], rates[-1])


def best_elsewhere(plan: Plan, results: Results, family: Family, rank: int, group: Sequence[int]) -> float:
    """The learning rate that served the other repeats' swept seeds best (a plan of one repeat has only its own)."""
    swept = plan.seeds_of(rank)
    return best_rate(results, family, rank, [seed for seed in swept if seed not in group] or swept)


def losses_at_best(plan: Plan, results: Results, family: Family, rank: int) -> dict[int, float]:
    """Each seed's loss at the rate that served the other repeats' seeds best: none helps to choose the rate that it is judged at."""
    found = {}
    seeds = plan.all_seeds if rank in plan.judged else plan.seeds_of(rank)
    for group in plan.groups:
        losses = results.losses(at(family, best_elsewhere(plan, results, family, rank, group)), rank)
        found.update({seed: losses[seed] for seed in group if seed in seeds})
    return found


def optimum(results: Results, family: Family, rank: int, seed: int) -> float:
    """Log of a seed's best learning rate: the vertex of the parabola through the losses within a factor 2 of its lowest.

    Where the parabola has no minimum in that window, the lowest point itself.
    """
    rates = results.rates(family, rank)
    losses = np.array([results.losses(at(family, lr), rank)[seed] for lr in rates])
    x = np.log(rates)
    lowest = int(np.argmin(losses))
    near = np.abs(x - x[lowest]) < math.log(2) * 1.01
    if near.sum() < 3:
        return float(x[lowest])
    a, b, _ = np.polyfit(x[near] - x[lowest], losses[near], 2)
    vertex = -b / (2 * a) if a > 0 else 0.0
    return float(x[lowest] + np.clip(vertex, x[near].min() - x[lowest], x[near].max() - x[lowest]))


def exponents(plan: Plan, results: Results, family: Family, ranks: Sequence[int]) -> Mapping[int, float]:
    """The slope of log best learning rate over log rank, of each seed on which all of these ranks were swept."""
    x = np.log(np.array(ranks, dtype=float))
    x = x - x.mean()
    seeds = [seed for seed in plan.all_seeds if all(seed in plan.seeds_of(rank) for rank in ranks)]
    return {seed: float(x @ np.array([optimum(results, family, r, seed) for r in ranks]) / (x @ x)) for seed in seeds}
