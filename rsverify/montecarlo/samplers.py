"""What every engine offers an estimate: the claim's number for each of many draws, at any rank.

Draws come in blocks of a size that only the sizes of the layer decide; each block has streams of its own. So the numbers are
the same whatever the chunk that memory allows, the number of workers, or the other ranks asked for.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from rsverify.definitions.claims import Setting
from rsverify.errors import InputError
from rsverify.montecarlo.budget import Budget
from rsverify.montecarlo.problem import Problem
from rsverify.montecarlo.store import Store

WORKERS = min(4, os.cpu_count() or 1)
T = TypeVar("T")


@dataclass(frozen=True)
class Task:
    """All that does not change between the ranks and phases of an estimate; `store` shares draws with other estimates."""

    setting: Setting
    problem: Problem
    alpha: float
    lr: float
    seed: int
    budget: Budget
    store: Store | None = None

    def gamma(self, rank: int) -> float:
        return self.setting.rule.gamma(rank, self.alpha)


@dataclass(frozen=True)
class Sample:
    """Draws at one rank: one number per draw, whose mean is the statistic (its square, its log).

    `vanishes` where the quantity is identically zero; `typical` is the median gradient entry of the first step (inf where no
    epsilon depends on it); `diverged` is the first step at which a run is no longer finite, None where all are.
    """

    rank: int
    values: np.ndarray
    vanishes: bool = False
    typical: float = np.inf
    diverged: int | None = None


class Sampler(ABC):
    """An engine at work on a task. `name` is what an Estimate reports; `exact` says in what sense the draws are right."""

    name: str
    task: Task

    @abstractmethod
    def sample(self, rank: int, phase: str, draws: int) -> Sample:
        """Independent draws; those of another rank or phase are independent of them, those of another rule the same.

        Raises: InputError for no draws; BudgetError where not one fits in memory.
        """

    @abstractmethod
    def entries(self, rank: int) -> int:
        """Numbers that one draw at a rank computes with: the work, whatever the machine."""

    def steps_work(self, rank: int, draws: int) -> float:
        """Numbers that the claim's steps compute with for so many draws at a rank; less where draws share their steps."""
        return float(self.task.setting.claim.steps) * draws * self.entries(rank)

    def nested(self, ranks: Sequence[int], phase: str, draws: int) -> list[Sample]:
        """Draws in which smaller ranks are parts of larger ones: for comparing rules on the same draws, not for one slope.

        A draw's number at a rank does not depend on the other ranks. Raises: InputError where the engine has no such draws.
        """
        raise InputError(f"engine {self.name!r} has no nested draws; ask for independent draws at each rank")

    def second_moment(self, rank: int) -> float | None:
        """The exact mean of the numbers at a rank, where the engine knows it in closed form."""
        return None


def check_draws(draws: int) -> None:
    """Refuse an empty sample before anything is drawn."""
    if isinstance(draws, bool) or draws != int(draws) or draws < 1:
        raise InputError(f"draws={draws!r}; expected a whole number from 1: no draws have no mean")


def over_blocks(work: Callable[[int, int], list[T]], *, draws: int, block: int, workers: int) -> list[T]:
    """The parts that `work(number, draws of it)` returns for each block, in order.

    numpy lets go of the interpreter in its loops; a block has its own streams, so workers change no number.
    """
    jobs = [(number, min(block, draws - number * block)) for number in range(-(-draws // block))]
    if min(workers, len(jobs)) <= 1:
        return [part for job in jobs for part in work(*job)]
    with ThreadPoolExecutor(min(workers, len(jobs))) as pool:
        return [part for parts in pool.map(lambda job: work(*job), jobs) for part in parts]


def first_divergence(finite_after: Callable[[int], bool], steps: int) -> int:
    """The first step after which a run is not finite, given that it is not after the last: what overflowed stays so."""
    low, high = 0, max(1, steps)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if finite_after(middle) else (low, middle)
    return high


def joined(rank: int, parts: Sequence[Sample]) -> Sample:
    """One sample of the parts, in their order."""
    diverged = [part.diverged for part in parts if part.diverged is not None]
    return Sample(
        rank, np.concatenate([part.values for part in parts]), all(part.vanishes for part in parts),
        min(part.typical for part in parts), min(diverged) if diverged else None,
    )  # fmt: skip
