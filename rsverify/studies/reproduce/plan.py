"""What a run of the study is made of: sizes, seeds, learning rates. Nothing here is chosen by outcome."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from rsverify.errors import InputError

LORA, RSLORA = "alpha/r", "alpha/sqrt(r)"

MARGIN = math.log(1.863 / 1.836)
"""Nats: the difference between the two perplexities that the source reports as better and worse (read in notes on it, not in itself)."""

EXPONENT_MARGIN = 0.1
"""The project's default: rules differ by 1/2."""

LEVEL = 0.95
"""Of one interval on the seeds of one repeat; see `judging` for what two repeats make of it."""

GUESS = math.log(256)
"""Nats of guessing a byte: what a run that diverged, or ended above it, counts as."""


@dataclass(frozen=True)
class Plan:
    """Sizes of a run.

    Args:
        narrow, wide: ranks trained on every seed, and ranks above the widths (128), on the few seeds where they are swept or a claim
            names them and on the first of each repeat elsewhere. low, high: ranks between which "more rank buys quality" is judged,
            high at most d/2.
        steps, tokens, held_out: steps of a run, tokens of each, sequences of the held-out loss.
        repeats, seeds: independent repeats of the whole study, and seeds in each. In a pilot (three seeds a repeat, used nowhere
            else) a paired difference of held-out losses had a standard deviation of 0.012 nats between seeds, of which eight let a
            repeat's interval leave the margin with probability 0.8 where the truth lies another margin away. Tried again on
            six of those seeds at tuned rates it was 0.024 after 100 steps and 0.015 after 200: the time that a full run may take
            went to longer runs before more seeds, and with seven a difference of two margins stays open more often.
        few: seeds of each repeat that the wide ranks and the rank-free layer are given: they cost most and vary least.
        lr: by optimizer. AdamW's is a tenth of what served rank-4 LoRA best in a pilot on seed 99 (used nowhere else), as
            the source's own sweep found its best ten times above its default; the others are the pilot's largest stable ones.
        sweep: powers of two of AdamW's lr in the coarse grid of the narrow ranks. sweep_sgd, sweep_sgd_lora: of SGD's, under rsLoRA
            and under LoRA. The pilot's best lay inside or one octave beyond; a grid whose end is best grows there, so that its
            ends decide nothing. 0 is among them: those runs are other figures', too.
        rounds: of growth, and then refinement, about the optimum.
        any_ranks, limit_ranks, limit_steps: of the rank-free layer.
    """

    narrow: tuple[int, ...] = (4, 8, 32, 64, 128)
    wide: tuple[int, ...] = (512, 2048)
    low: int = 4
    high: int = 64
    steps: int = 180
    tokens: int = 64
    held_out: int = 16
    repeats: int = 2
    seeds: int = 7
    few: int = 3
    seed: int = 0
    alpha: float = 20.0
    lr: float = 3e-4
    lr_sgd: float = 0.03
    lr_adafactor: float = 0.1
    sweep: tuple[int, ...] = (0, 1, 2, 3, 4)
    sweep_sgd: tuple[int, ...] = (-1, 0, 1, 2)
    sweep_sgd_lora: tuple[int, ...] = (0, 1, 2, 3, 4, 5)
    rounds: int = 4
    any_ranks: tuple[int, ...] = (4, 256, 65_536, 1_000_000)
    any_steps: int = 60
    limit_ranks: tuple[int, ...] = (256, 1024, 4096, 16_384, 65_536)
    limit_steps: int = 20

    def __post_init__(self) -> None:
        if self.seeds < 2 or self.few < 2 or self.repeats < 1:
            raise InputError(
                f"seeds={self.seeds}, few={self.few}, repeats={self.repeats}; expected at least 2 seeds (an interval needs"
                " two) and 1 repeat"
            )
        if self.seed < 0:
            raise InputError(f"seed={self.seed}; expected a whole number from 0")

    @property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """The seeds of each repeat: no seed stands in two."""
        first = 10_000 * (self.seed + 1)
        return tuple(tuple(first + 100 * k + i for i in range(self.seeds)) for k in range(self.repeats))

    @property
    def all_seeds(self) -> tuple[int, ...]:
        return tuple(seed for group in self.groups for seed in group)

    @property
    def few_seeds(self) -> tuple[int, ...]:
        return tuple(seed for group in self.groups for seed in group[: self.few])

    def seeds_of(self, rank: int) -> tuple[int, ...]:
        """The seeds on which a rank is swept: all for the narrow ones, the few for those above the widths."""
        return self.few_seeds if rank in self.wide else self.all_seeds

    def grid(self, rule: str, optimizer: str) -> tuple[int, ...]:
        """Powers of two of `rate` with which a sweep of the narrow ranks begins.

        Raises: InputError where the plan sweeps no such optimizer.
        """
        grids = {"adamw": self.sweep, "sgd": self.sweep_sgd_lora if rule == LORA else self.sweep_sgd}
        if optimizer not in grids:
            raise InputError(f"optimizer={optimizer!r} has no learning-rate sweep in this plan; {', '.join(grids)} have one")
        return grids[optimizer]

    def rate(self, optimizer: str) -> float:
        """The one learning rate at which an optimizer is run."""
        return {"adamw": self.lr, "sgd": self.lr_sgd, "adafactor": self.lr_adafactor}[optimizer]

    def to_dict(self) -> dict[str, Any]:
        """As plain data: what a journal is held against."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def full(*, seed: int = 0, **changes: Any) -> Plan:
    """At most half an hour on two quiet cores."""
    return changed(Plan(seed=seed), **changes)


def quick(*, seed: int = 0, **changes: Any) -> Plan:
    """Three minutes on two quiet cores: few steps, so that little is settled but what theory fixes at init."""
    sizes = Plan(
        wide=(512,), seeds=3, steps=12, held_out=8, sweep=(0, 1, 2, 3, 4, 5), rounds=2, any_steps=6, limit_ranks=(1024, 4096, 16_384),
        limit_steps=4, seed=seed,
    )  # fmt: skip
    return changed(sizes, **changes)


def changed(plan: Plan, **changes: Any) -> Plan:
    """The plan with the changes that are not None."""
    known = {f.name for f in fields(Plan)}
    given = {name: value for name, value in changes.items() if value is not None}
    if extra := set(given) - known:
        raise InputError(f"plan has no {sorted(extra)[0]!r}; it has {', '.join(sorted(known))}")
    return replace(plan, **given)
