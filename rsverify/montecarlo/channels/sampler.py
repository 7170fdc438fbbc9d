"""The rank-channel engine at work: sums over channels, one block of channels at a time, for one rank or for all ranks at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from rsverify.definitions.claims import Setting
from rsverify.definitions.laws import Gaussian
from rsverify.errors import InputError
from rsverify.montecarlo.channels import moves
from rsverify.montecarlo.gram import spans
from rsverify.montecarlo.gram.numbers import Factors, mean_component, needs_off_span, off_span_draws, reduced
from rsverify.montecarlo.gram.rows import CHANNELS, Block, Rows, blocks
from rsverify.montecarlo.gram.sampler import lora_factors
from rsverify.montecarlo.samplers import WORKERS, Sample, Sampler, Task, check_draws, joined, over_blocks
from rsverify.statistics.streams import bulk_stream, stream

NESTED_DRAWS = 8
BLOCK_DRAWS = 2048
BLOCK_ENTRIES = 2**19  # draws of a block share streams, whose making costs what some thousand numbers do
STEP_ENTRIES = 2**18  # what is computed with at once stays near a core; smaller steps are all overhead


def silence(setting: Setting) -> str | None:
    """Why the rank-channel engine cannot speak for a setting; None where it can."""
    found = lora_factors(setting.adapter)
    if isinstance(found, str):
        return found
    if not found.trained[0]:
        return f"{found.B} is frozen at zero"
    if not found.law.independent:
        return f"the rows of {found.A} are not independent: {found.law.text()}"
    return moves.silence(setting.optimizer, steps=setting.claim.steps, a_trained=found.trained[1])


@dataclass(frozen=True)
class ChannelSampler(Sampler):
    """Exact for LoRA with independent rows of A: the first step of any coordinatewise optimizer, any number of B's steps where A is frozen.

    Cost grows with rank, not with the width where A is Gaussian; memory grows with neither. Raises: InputError where
    `silence` has a reason.
    """

    task: Task
    name = "channels"

    def __post_init__(self) -> None:
        reason = silence(self.task.setting)
        if reason is not None:
            raise InputError(f"engine 'channels' cannot speak: {reason}; ask for the dense engine")

    @cached_property
    def factors(self) -> Factors:
        found = lora_factors(self.task.setting.adapter)
        assert not isinstance(found, str)
        return found

    @cached_property
    def run(self) -> moves.Run:
        problem, claim = self.task.problem, self.task.setting.claim
        x, probe, v = (a.reshape(len(a), -1) for a in (problem.x, problem.x_probe, problem.v))
        data = spans.span(x, probe)
        if needs_off_span(claim) and not isinstance(self.factors.law, Gaussian):
            data = spans.Span(np.eye(len(x)), x, probe)  # off the span a law that is not Gaussian is not free of it
        return moves.Run(data, v, self.task.setting.optimizer, self.task.lr, claim.steps, self.factors.trained[1])

    @cached_property
    def rows(self) -> Rows:
        return Rows(self.factors.law, self.run.data.Q)

    @property
    def quantity(self) -> str:
        claim = self.task.setting.claim
        return "gradients" if claim.quantity == "gradient_norm" or claim.factor else claim.quantity

    def entries(self, rank: int) -> int:
        return rank * self._per_channel

    def steps_work(self, rank: int, draws: int) -> float:
        steps = self.run.steps
        return float(steps if steps > 1 else 1) * draws * self.entries(rank)

    def spread(self, rank: int) -> float:
        d_in, d_out = len(self.run.data.Q), len(self.run.V)
        sizes = self.task.setting.adapter.axis_sizes(rank, d_in, d_out)
        return self.factors.law.scale({**sizes, "d_in": d_in, "d_out": d_out, "gamma": self.task.gamma(rank)})

    def sample(self, rank: int, phase: str, draws: int) -> Sample:
        check_draws(draws)
        self.task.budget.check_work(self.entries(rank), rank=rank)
        block = max(1, min(BLOCK_DRAWS, BLOCK_ENTRIES // (self._per_channel * min(rank, CHANNELS))))
        return self._sampled((rank,), draws, block, lambda number: (phase, rank, number), whole=False)[0]

    def nested(self, ranks: Sequence[int], phase: str, draws: int) -> list[Sample]:
        check_draws(draws)
        self.task.budget.check_work(self.entries(max(ranks)), rank=max(ranks))
        return self._sampled(tuple(ranks), draws, NESTED_DRAWS, lambda number: ("nested", phase, number), whole=True)

    @property
    def _per_channel(self) -> int:
        k, n = self.run.data.R.shape
        return self.rows.drawn + k + 3 * len(self.run.V) + 2 * n

    def _sampled(
        self, ranks: tuple[int, ...], draws: int, block: int, name: Callable[[int], tuple[str | int, ...]], *, whole: bool
    ) -> list[Sample]:
        per_draw = 8 * self._per_channel * min(max(ranks) if not whole else CHANNELS, CHANNELS)
        workers = max(1, min(WORKERS, -(-draws // block), self.task.budget.bytes // per_draw))
        chunk = self.task.budget.chunk(per_draw * workers, block, rank=max(ranks))

        def work(number: int, held: int) -> list[list[Sample]]:
            with np.errstate(over="ignore", invalid="ignore"):
                sums, typical = self._sums(ranks, held, name(number), chunk, whole=whole)
                return [[self._finished(rank, sums[rank], typical[rank], held, name(number)) for rank in ranks]]

        parts = over_blocks(work, draws=draws, block=block, workers=workers)
        return [joined(rank, [part[i] for part in parts]) for i, rank in enumerate(ranks)]

    def _sums(
        self, ranks: tuple[int, ...], draws: int, name: tuple[str | int, ...], chunk: int, *, whole: bool
    ) -> tuple[dict[int, list[np.ndarray]], dict[int, float]]:
        """The sums of every rank, and its median gradient entry.

        Where steps are homogeneous in the gradient one running sum serves all ranks, else each has its own. A rank inside a
        block adds that block's part, computed from its start, to the whole blocks before: other ranks change nothing.
        """
        degree = self._degree
        scales = {rank: self.task.gamma(rank) * self.spread(rank) for rank in ranks}
        if degree is None:
            return self._added(ranks, draws, name, chunk, scales, whole=whole)
        store, ones = self.task.store, dict.fromkeys(ranks, 1.0)

        def make() -> tuple[np.ndarray, ...]:
            sums, typical = self._added(ranks, draws, name, chunk, ones, whole=whole)
            return np.asarray([typical[rank] for rank in ranks]), *(part for rank in ranks for part in sums[rank])

        # The run without its scale is that of every rule.
        run = self.task.setting.optimizer.text, self.run.lr, self.run.steps, self.run.a_trained, self.quantity, self.run.V.tobytes()
        key = ("sums", self.rows.key, run, self.run.data.R.tobytes(), self.run.data.R_probe.tobytes(), self.task.seed, name, ranks, draws)
        typical, *parts = make() if store is None else store.get(key, make)
        count = len(parts) // len(ranks)
        sums = {rank: parts[i * count : (i + 1) * count] for i, rank in enumerate(ranks)}
        scaled = {
            rank: [part * scales[rank] ** (g + degree * b) for part, (g, b) in zip(sums[rank], self._powers, strict=True)] for rank in ranks
        }
        return scaled, {rank: float(size) * scales[rank] for rank, size in zip(ranks, typical, strict=True)}

    def _added(
        self, ranks: tuple[int, ...], draws: int, name: tuple[str | int, ...], chunk: int, scales: dict[int, float], *, whole: bool
    ) -> tuple[dict[int, list[np.ndarray]], dict[int, float]]:
        """As `_sums`, for gradients of these scales; ranks of one scale share a running sum."""
        running: dict[float, list[np.ndarray]] = {}
        sums: dict[int, list[np.ndarray]] = {}
        typical = dict.fromkeys(ranks, np.inf)
        for block in blocks(max(ranks)):
            size = block.stop - block.start if whole else min(block.stop, max(ranks)) - block.start
            step = max(1, min(chunk, STEP_ENTRIES // (self._per_channel * size)))
            here = [rank for rank in ranks if rank > block.start]
            before = {scale: [part.copy() for part in parts] for scale, parts in running.items()}
            for first, z in zip(range(0, draws, step), self._rows(block, name, size, draws, step), strict=True):
                held = slice(first, first + len(z))
                for scale in dict.fromkeys(scales[rank] for rank in here):
                    alike = [rank for rank in here if scales[rank] == scale]
                    if any(rank >= block.stop for rank in alike):
                        self._add(running, scale, z, scale, held, draws)
                    for rank in (rank for rank in alike if rank < block.stop):
                        self._add(sums, rank, z[:, : rank - block.start], scale, held, draws, before=before.get(scale))
                if not first and not block.start:
                    typical.update({rank: self._typical(z[0, :rank], scales[rank]) for rank in ranks})
            for rank in (rank for rank in here if rank == block.stop):
                sums[rank] = [part.copy() for part in running[scales[rank]]]
        return sums, typical

    def _rows(self, block: Block, name: tuple[str | int, ...], size: int, draws: int, step: int) -> Iterable[np.ndarray]:
        """The rows of a block of channels, some draws at a time."""
        rng = bulk_stream(self.task.seed, "channels", *name, block.number)
        chunks = (self.rows.draw(rng, min(step, draws - first), size) for first in range(0, draws, step))
        # Sums are kept where they serve every rule; rows hardly narrower than what is drawn for them are as soon drawn again.
        if self.task.store is None or self._degree is not None or 2 * self.rows.Q.shape[1] > self.rows.drawn:
            return chunks
        key = ("rows", self.rows.key, self.task.seed, name, block.number, size, draws, step)
        return self.task.store.get(key, lambda: tuple(chunks))

    @property
    def _degree(self) -> int | None:
        return moves.degree(self.task.setting.optimizer, self.run.steps)

    @cached_property
    def _powers(self) -> list[tuple[int, int]]:
        none = np.zeros((1, 0, self.run.data.R.shape[0]))
        return [(term.gradients, term.columns) for term in moves.terms(self.run, self.quantity, none, 1.0)]

    def _add(
        self, sums: dict[Any, list[np.ndarray]], key: float, z: np.ndarray, scale: float, held: slice, draws: int,
        *, before: list[np.ndarray] | None = None,
    ) -> None:  # fmt: skip
        parts = moves.terms(self.run, self.quantity, z, scale)
        if key not in sums:
            sums[key] = [np.zeros((draws, *part.value.shape[1:])) for part in parts] if before is None else [b.copy() for b in before]
        for total, part in zip(sums[key], parts, strict=True):
            total[held] += part.value

    def _typical(self, z: np.ndarray, scale: float) -> float:
        if "eps" not in self.task.setting.optimizer.defaults or not self.run.steps or not len(z):
            return np.inf
        return float(np.median(np.abs(self.run.gradient(z[None], scale))))

    def _finished(self, rank: int, sums: list[np.ndarray], typical: float, draws: int, name: tuple[str | int, ...]) -> Sample:
        values, vanishes = self._values(rank, sums, draws, name)
        bad = np.isnan(values) | (values == np.inf)
        # A sum over channels has no path in it: what is not finite is so by the last step.
        return Sample(rank, values, vanishes, typical, self.run.steps if bad.any() else None)

    def _values(self, rank: int, sums: list[np.ndarray], draws: int, name: tuple[str | int, ...]) -> tuple[np.ndarray, bool]:
        claim, run, gamma = self.task.setting.claim, self.run, self.task.gamma(rank)
        (p, n), d_in, scale = run.V.shape, len(run.data.Q), gamma * self.spread(rank) * run.shrunk
        if self.quantity == "gradients":
            squares = {self.factors.B: run.shrunk**2 * sums[0], self.factors.A: gamma**2 * sums[1]}
            sizes = {self.factors.B: p * rank, self.factors.A: rank * d_in}
            names = [claim.factor] if claim.factor else list(self.task.setting.adapter.trainable)
            total = sum((squares[factor] for factor in names), np.zeros(draws))
            return reduced(claim, total, None, sizes[claim.factor] if claim.factor else 1), not total.any()
        if claim.quantity == "loss_decrease":
            return reduced(claim, sums[0] ** 2, sums[0], 1), not sums[0].any()
        y, along = scale * sums[0], -run.V / np.linalg.norm(run.V, axis=0)
        squares, entries = np.einsum("npi,npi->n", y, y), p * y.shape[2]
        if claim.quantity == "input_gradient":
            rng = stream(self.task.seed, "channels", *name, "off", rank)
            off = off_span_draws(rng, draws, d_in - run.data.R.shape[0], n)
            squares = squares + scale**2 * (np.maximum(np.linalg.eigvalsh(sums[1]), 0.0) * off).sum(axis=1)
            along, entries = run.data.R / np.linalg.norm(run.data.R, axis=0), d_in * n
        return reduced(claim, squares, mean_component(y, along), entries), not squares.any()
