"""Families of runs as cells of a sweep, and their results by what was asked."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rsverify.studies.reproduce.plan import GUESS, LORA, RSLORA, Plan
from rsverify.sweep import Cell

CELLS = "rsverify.studies.reproduce.cells"


@dataclass(frozen=True)
class Family:
    """Curves that differ in rank and seed alone.

    Args: init multiplies A's default spread, a formula in r; targets are names of linears with commas, or all.
    """

    rule: str
    optimizer: str = "adamw"
    init: str = "1"
    targets: str = "all"
    lr: float | None = None

    def rate(self, plan: Plan) -> float:
        return plan.rate(self.optimizer) if self.lr is None else self.lr

    def cell(self, plan: Plan, ranks: Sequence[int], seed: int) -> Cell:
        """One cell: all of these ranks from one seed."""
        return Cell(
            f"{CELLS}:train",
            {
                "rule": self.rule, "optimizer": self.optimizer, "init": self.init, "targets": self.targets, "lr": self.rate(plan),
                "ranks": list(ranks), "steps": plan.steps, "tokens": plan.tokens, "held_out": plan.held_out, "alpha": plan.alpha,
                "spectra": self.shows_spectra(plan),
            },
            seed,
        )  # fmt: skip

    def first_step(self, plan: Plan, seed: int) -> Cell:
        """One step of all narrow ranks: what the gradients at init are, at the price of set-up alone."""
        return self.cell(replace(plan, steps=1), plan.narrow, seed)

    def shows_spectra(self, plan: Plan) -> bool:
        """Whether the spectra of its updates are looked at: those of the two rules as the article trains them, and no others."""
        plain = (self.optimizer, self.init, self.targets, self.rate(plan)) == ("adamw", "1", "all", plan.rate("adamw"))
        return plain and self.rule in (LORA, RSLORA)

    def cells(self, plan: Plan, *, swept: bool = False, named: bool = False, judged: Sequence[int] | None = None) -> list[Cell]:
        """What shows and judges a family at its one rate: all narrow ranks on some seeds, the judged ranks on every other.

        The swept seeds without all ranks' curves have their first step, of which theory speaks.

        Args: swept where a sweep runs the family too, whose cells these then are. named where the claim names the wide ranks; else they
            are shown beside it. judged are ranks, by default the plan's.
        """
        curves = plan.swept_seeds if swept else plan.few_seeds
        found = [self.cell(plan, plan.narrow, seed) for seed in curves]
        found += [self.first_step(plan, seed) for seed in plan.swept_seeds if seed not in curves]
        found += [self.cell(plan, judged or plan.judged, seed) for seed in plan.all_seeds if seed not in curves]
        wide = {rank: plan.seeds_of(rank) if named else plan.first_seeds(1) for rank in plan.wide if named or rank in plan.beside}
        # One cell a rank: the widest takes as long as all others together.
        return found + [self.cell(plan, [rank], seed) for rank, seeds in wide.items() for seed in seeds]


def rank_free_cell(plan: Plan, rule: str, seed: int) -> Cell:
    """LoRA at ranks without limit under SGD."""
    return Cell(
        f"{CELLS}:rank_free",
        {
            "rule": rule, "ranks": list(plan.any_ranks), "lr": plan.lr_sgd, "steps": plan.any_steps, "tokens": plan.tokens,
            "held_out": plan.held_out, "alpha": plan.alpha,
        },
        seed,
    )  # fmt: skip


def distance_cell(plan: Plan, rule: str, seed: int) -> Cell:
    """The distance of LoRA's path from full fine-tuning's at ranks without limit."""
    settings = {"rule": rule, "ranks": list(plan.limit_ranks), "lr": plan.lr_sgd, "steps": plan.limit_steps, "tokens": plan.tokens}
    return Cell(f"{CELLS}:distance_to_full", {**settings, "alpha": plan.alpha}, seed)


@dataclass
class Results:
    """What cells gave: of training runs by (family, learning rate, rank, seed), of others by their cell."""

    plan: Plan
    of_cell: dict[str, Any] = field(default_factory=dict)
    _runs: dict[tuple[Any, ...], Mapping[str, Any]] = field(default_factory=dict)
    _first_steps: dict[tuple[Any, ...], Mapping[str, Any]] = field(default_factory=dict)

    def add(self, cell: Cell, result: Any) -> None:
        self.of_cell[cell.key] = result
        if cell.function == f"{CELLS}:train":
            c = cell.configuration
            kept = self._runs if c["steps"] == self.plan.steps else self._first_steps
            for run in result["runs"]:
                kept[c["rule"], c["optimizer"], c["init"], c["targets"], c["lr"], run["rank"], cell.seed] = run

    def run(self, family: Family, rank: int, seed: int) -> Mapping[str, Any] | None:
        """One run's record, None where it was not made."""
        return self._runs.get(self._key(family, rank, seed))

    def norm_at_init(self, family: Family, rank: int, seed: int) -> float | None:
        """The gradient norm before the first step, from a whole run or from one step alone; None where there is neither."""
        key = self._key(family, rank, seed)
        run = self._runs.get(key) or self._first_steps.get(key)
        return None if run is None else run["gradient_norm"][0]

    def _key(self, family: Family, rank: int, seed: int) -> tuple[Any, ...]:
        f = family
        return f.rule, f.optimizer, f.init, f.targets, f.rate(self.plan), rank, seed

    def runs(self, family: Family, rank: int) -> dict[int, Mapping[str, Any]]:
        """That rank's records by seed, as far as they were made."""
        found = {seed: self.run(family, rank, seed) for seed in self.plan.all_seeds}
        return {seed: run for seed, run in found.items() if run is not None}

    def ranks(self, family: Family) -> list[int]:
        """Ranks of which at least one seed was run."""
        return [rank for rank in (*self.plan.narrow, *self.plan.wide) if self.runs(family, rank)]

    def rates(self, family: Family, rank: int) -> list[float]:
        """Every learning rate at which all seeds that the plan sweeps that rank on were run, rising."""
        f = family
        found: dict[float, set[int]] = {}
        for rule, optimizer, init, targets, lr, r, seed in self._runs:
            if (rule, optimizer, init, targets, r) == (f.rule, f.optimizer, f.init, f.targets, rank):
                found.setdefault(lr, set()).add(seed)
        return sorted(lr for lr, seeds in found.items() if seeds >= set(self.plan.seeds_of(rank)))

    def losses(self, family: Family, rank: int) -> dict[int, float]:
        """Held-out loss in nats by seed; a run that diverged counts as guessing."""
        return {seed: held_out(run) for seed, run in self.runs(family, rank).items()}


def held_out(run: Mapping[str, Any]) -> float:
    """Nats a byte on held-out text; what diverged, or ended worse than guessing, counts as guessing."""
    value = run["held_out"]
    return GUESS if value is None or run["diverged"] is not None else min(value, GUESS)


def less(one: Mapping[int, float], other: Mapping[int, float]) -> dict[int, float]:
    """Paired differences: the same seed, hence the same data, on both sides."""
    return {seed: one[seed] - other[seed] for seed in one if seed in other}


def finite(values: Iterable[float | None]) -> list[float]:
    """As floats, NaN for None."""
    return [math.nan if v is None else v for v in values]
