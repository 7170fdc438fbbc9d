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

AGAIN = 0.95
"""Probability with which a fresh run must be expected to give an answer again before it counts as settled."""

WIDTH = 128
"""Of the base: at ranks above it nothing changes but the effective learning rate."""

GUESS = math.log(256)
"""Nats of guessing a byte: what a run that diverged, or ended above it, counts as."""


@dataclass(frozen=True)
class Plan:
    """Sizes of a run.

    Args:
        narrow, wide: ranks at most d/2, of which the claims are judged, and ranks beyond it, where nothing is decided unless a claim
            names the rank. low, high: ranks between which "more rank buys quality" is judged.
        steps, tokens, held_out: steps of a run, tokens of each, sequences of the held-out loss.
        repeats, seeds: independent repeats of the whole study, and seeds in each. A paired difference of held-out losses has a
            standard deviation of 0.015 to 0.02 nats between seeds (pilot, on seeds used nowhere else): twenty let a repeat's interval
            leave the margin with probability 0.88 (at 0.02) where the truth lies another margin away. Only ranks low and high need so many.
        swept: the first seeds of each repeat, on which learning rates are swept. The others are run at the best rates found, and
            have no part in choosing them.
        few, beyond: the first seeds of each repeat for what costs most, or decides nothing: few for the rank-free layer, wide ranks up
            to the width, and all ranks' curves of the families that no sweep runs; beyond for ranks above the width.
        named: the first seeds of each repeat on which rsLoRA is run at the largest rank and the one rate, of which a claim speaks.
        beside: wide ranks that those other families show, on the first seed of each repeat.
        lr: by optimizer. AdamW's is a tenth of what served rank-4 LoRA best in a pilot on seed 99 (used nowhere else), as
            the source's own sweep found its best ten times above its default; the others are the pilot's largest stable ones.
        sweep: powers of two of AdamW's lr in the coarse grid of the narrow ranks. sweep_sgd, sweep_sgd_lora: of SGD's, under rsLoRA
            and under LoRA. The pilot's best lay inside or one octave beyond; a grid whose end is best grows there, so that its
            ends decide nothing. 0 is among them: those runs are other figures', too.
        rounds: of growth, and then refinement, about the optimum.
        any_ranks, limit_ranks, limit_steps: of the rank-free layer.
    """

    narrow: tuple[int, ...] = (4, 8, 32, 64)
    wide: tuple[int, ...] = (128, 512, 2048)
    low: int = 4
    high: int = 64
    steps: int = 180
    tokens: int = 64
    held_out: int = 16
    repeats: int = 2
    seeds: int = 20
    swept: int = 7
    few: int = 3
    beyond: int = 2
    named: int = 6
    beside: tuple[int, ...] = (128, 512)
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
        counts = {name: getattr(self, name) for name in ("seeds", "swept", "few", "beyond", "named")}
        if min(counts.values()) < 2 or self.repeats < 1:
            said = ", ".join(f"{name}={count}" for name, count in counts.items())
            raise InputError(f"{said}, repeats={self.repeats}; expected at least 2 seeds of each kind (an interval needs two) and 1 repeat")
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

    def first_seeds(self, count: int) -> tuple[int, ...]:
        """So many seeds of each repeat, or all where it has fewer."""
        return tuple(seed for group in self.groups for seed in group[:count])

    @property
    def swept_seeds(self) -> tuple[int, ...]:
        return self.first_seeds(self.swept)

    @property
    def few_seeds(self) -> tuple[int, ...]:
        return self.first_seeds(self.few)

    @property
    def judged(self) -> tuple[int, ...]:
        """The ranks whose held-out losses are compared, on every seed."""
        return tuple(dict.fromkeys((self.low, self.high)))

    @property
    def largest(self) -> int:
        return (*self.narrow, *self.wide)[-1]

    def seeds_of(self, rank: int) -> tuple[int, ...]:
        """The seeds on which a rank is swept: fewer for the wide ones."""
        count = self.swept if rank not in self.wide else self.few if rank <= WIDTH else self.beyond
        return self.first_seeds(min(count, self.swept))

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
        wide=(128, 512), seeds=3, steps=12, held_out=8, sweep=(0, 1, 2, 3, 4, 5), rounds=2, any_steps=6, limit_ranks=(1024, 4096, 16_384),
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
