"""The dense engine at work: the factors themselves, of any declared adapter, drawn and trained in chunks that fit in memory."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.claims import Setting
from rsverify.montecarlo.dense.contraction import held_entries
from rsverify.montecarlo.dense.drawing import block_size, draw_block
from rsverify.montecarlo.dense.engine import SAMPLE, Engine, Factors
from rsverify.montecarlo.dense.observables import Observed, observe, observe_all
from rsverify.montecarlo.samplers import WORKERS, Sample, Sampler, Task, check_draws, first_divergence, joined, over_blocks


@dataclass(frozen=True)
class DenseSampler(Sampler):
    """Any declared adapter under any optimizer; cost and memory grow with rank and widths."""

    task: Task
    name = "dense"

    def engine(self, rank: int) -> Engine:
        problem = self.task.problem
        return Engine(self.task.setting.adapter, rank, self.task.gamma(rank), len(problem.x), len(problem.v))

    def entries(self, rank: int) -> int:
        engine = self.engine(rank)
        return sum(math.prod(shape) for shape in engine.adapter.shapes(rank, engine.d_in, engine.d_out).values())

    def sample(self, rank: int, phase: str, draws: int) -> Sample:
        check_draws(draws)
        self.task.budget.check_work(self.entries(rank), rank=rank)
        task, engine = self.task, self.engine(rank)
        sizes = {"rank": rank, "gamma": engine.gamma, "d_in": engine.d_in, "d_out": engine.d_out}
        block = block_size(engine.adapter, rank, engine.d_in, engine.d_out)
        per_draw = bytes_per_draw(engine.adapter, rank, engine.d_in, engine.d_out, samples=task.problem.x[0].size)
        # Fewer workers rather than a refusal where one draw at a time is all that fits.
        workers = max(1, min(WORKERS, -(-draws // block), task.budget.bytes // per_draw))
        chunk = task.budget.chunk(per_draw * workers, block, rank=rank)

        def shared(number: int, n: int) -> list[Sample]:
            assert task.store is not None
            key = (
                "dense",
                engine,
                task.setting.optimizer.text,
                task.setting.claim.probe,
                task.setting.claim.steps,
                task.lr,
                task.seed,
                phase,
                number,
            )
            arrays = task.store.get(key, lambda: _arrays(work_all(number)))
            return [_sample_of(arrays, LOOKS.index(_look(task.setting)), rank, n)]

        def work_all(number: int) -> list[list[Observed]]:
            chunks = draw_block(engine.adapter, seed=task.seed, phase=phase, number=number, draws=block, chunk=chunk, **sizes)
            with np.errstate(over="ignore", invalid="ignore"):
                return [
                    observe_all(_looks(task.setting), engine, task.problem, factors, lr=task.lr, draws=held) for held, factors in chunks
                ]

        def work(number: int, n: int) -> list[Sample]:
            chunks = draw_block(engine.adapter, seed=task.seed, phase=phase, number=number, draws=n, chunk=chunk, **sizes)
            return [self._numbers(engine, factors, held) for held, factors in chunks]

        if task.store is not None and _look(task.setting) in LOOKS:
            sample = joined(rank, over_blocks(shared, draws=draws, block=block, workers=workers))
            if np.isfinite(sample.values).all():
                return sample
        return joined(rank, over_blocks(work, draws=draws, block=block, workers=workers))

    def _numbers(self, engine: Engine, factors: Factors, draws: int) -> Sample:
        def after(steps: int, factors: Factors, draws: int) -> Observed:
            with np.errstate(over="ignore", invalid="ignore"):
                return observe(shortened(self.task.setting, steps), engine, self.task.problem, factors, lr=self.task.lr, draws=draws)

        steps = self.task.setting.claim.steps
        seen = after(steps, factors, draws)
        bad = np.flatnonzero(np.isnan(seen.values) | (seen.values == np.inf))
        diverged = None
        if len(bad):
            one = {name: None if w is None else w[bad[0] : bad[0] + 1] for name, w in factors.items()}
            diverged = first_divergence(lambda s: bool((after(s, one, 1).values < np.inf).all()), steps)
        return Sample(engine.rank, seen.values, seen.vanishes, seen.typical, diverged)


LOOKS = (("update", "rms"), ("update", "projection"), ("loss_decrease", "rms"))
"""What is looked at of one trained draw where a store is shared: the headlines of a step, whichever of them is asked first."""


def _look(setting: Setting) -> tuple[str, str]:
    return setting.claim.quantity, setting.claim.statistic


def _looks(setting: Setting) -> list[Setting]:
    return [replace(setting, claim=replace(setting.claim, quantity=quantity, statistic=statistic)) for quantity, statistic in LOOKS]


def _arrays(chunks: list[list[Observed]]) -> tuple[np.ndarray, ...]:
    """The numbers of each look, a draw a row; then, a look a row, whether each vanishes and its typical gradient entry."""
    values = [np.concatenate([seen[k].values for seen in chunks]) for k in range(len(LOOKS))]
    flags = [(all(seen[k].vanishes for seen in chunks), min(seen[k].typical for seen in chunks)) for k in range(len(LOOKS))]
    return (*values, np.asarray(flags))


def _sample_of(arrays: tuple[np.ndarray, ...], look: int, rank: int, draws: int) -> Sample:
    vanishes, typical = arrays[-1][look]
    return Sample(rank, arrays[look][:draws], bool(vanishes), float(typical))


def shortened(setting: Setting, steps: int) -> Setting:
    """The same setting after fewer steps."""
    if steps == setting.claim.steps:
        return setting
    return replace(setting, claim=replace(setting.claim, steps=steps))


ARRAYS = 9
"""Arrays as large as a factor that a step holds at most: the factor before and now, its gradient, two moments before and now,
and two temporaries."""


def bytes_per_draw(adapter: Adapter, rank: int, d_in: int, d_out: int, *, samples: int = 1) -> int:
    """What one draw holds at most, in float64: factors and all that a step makes of them, and what a contraction leaves behind."""
    shapes = adapter.shapes(rank, d_in, d_out)
    entries = ARRAYS * sum(math.prod(shape) for shape in shapes.values())
    rows, columns = adapter.result
    sizes = {**adapter.axis_sizes(rank, d_in, d_out), SAMPLE: samples}
    x, v, factors = (*columns, SAMPLE), (*rows, SAMPLE), list(adapter.operands.values())
    contractions = [([*factors, x], v), ([*factors, v], x)]
    contractions += [([*(a for n, a in adapter.operands.items() if n != name), x, v], axes) for name, axes in adapter.operands.items()]
    held = max(held_entries(operands, result, sizes) for operands, result in contractions)
    return 8 * (entries + held + 4 * samples * (d_in + d_out))  # outputs before and after, their difference and its square
