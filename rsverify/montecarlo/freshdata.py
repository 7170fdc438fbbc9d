"""Draws that take fresh data each: for adapters in which nothing but the data is random."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from rsverify.montecarlo.problem import make_problem
from rsverify.montecarlo.samplers import Sample, Sampler, Task, check_draws, joined
from rsverify.statistics.streams import stream


@dataclass(frozen=True)
class FreshData(Sampler):
    """Another engine, asked for one draw at a time, each on a sample, signal and seed of its own.

    MiSS has no random factor: on one sample its curve would show that sample's own bumps, with no spread to tell them from a
    power of the rank.
    """

    task: Task
    inner: Callable[[Task], Sampler]

    @property
    def name(self) -> str:  # type: ignore[override]
        return f"{self.inner(self.task).name}, fresh data"

    def entries(self, rank: int) -> int:
        return self.inner(self.task).entries(rank)

    def sample(self, rank: int, phase: str, draws: int) -> Sample:
        check_draws(draws)
        seeds = stream(self.task.seed, "montecarlo", "fresh", phase, rank).integers(2**62, size=draws)
        return joined(rank, [self._one(rank, phase, int(seed)) for seed in seeds])

    def _one(self, rank: int, phase: str, seed: int) -> Sample:
        now = self.task.problem
        problem = make_problem(seed, d_in=len(now.x), d_out=len(now.v), cosine=self.task.setting.claim.cosine)
        return self.inner(replace(self.task, problem=problem, seed=seed)).sample(rank, phase, 1)
