"""The Gram engine at work: Wishart matrices instead of factors, so that rank 2**40 costs what rank 16 costs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.claims import Setting
from rsverify.definitions.laws import Frozen, Gaussian, Zero
from rsverify.errors import InputError
from rsverify.montecarlo.gram import spans
from rsverify.montecarlo.gram.numbers import Factors, Seen, needs_off_span, off_span_draws
from rsverify.montecarlo.gram.rows import CHANNELS, Rows
from rsverify.montecarlo.samplers import WORKERS, Sample, Sampler, Task, check_draws, first_divergence, joined, over_blocks
from rsverify.statistics.streams import bulk_stream, stream
from rsverify.statistics.wishart import NestedWishart, wishart_factor
from rsverify.statistics.wishart import gram as square

BLOCK_DRAWS = 2048
STEP_WORK = 3_000
"""What a step of a small state costs, in numbers computed with: some 30 microseconds of calls."""
BLOCK_ENTRIES = 2**17  # a block of Wishart matrices fits in a core's own cache (1 MB)


def lora_factors(adapter: Adapter) -> Factors | str:
    """The adapter's factors where it is LoRA with B zero, or why it is not."""
    rows, columns = adapter.result
    if len(adapter.operands) != 2 or len(rows) != 1 or len(columns) != 1 or len(adapter.rank_axes) != 1:
        return f"{adapter.expression!r} is not the product of two factors over one rank axis"
    rank = adapter.rank_axes[0]
    by_axes = {axes: name for name, axes in adapter.operands.items()}
    B, A = by_axes.get((rows[0], rank)), by_axes.get((rank, columns[0]))
    if B is None or A is None:
        return f"{adapter.expression!r} is not the product B A of a (rows, rank) and a (rank, columns) factor"
    up, down = (law.law if isinstance(law := adapter.laws[name], Frozen) else law for name in (B, A))
    if not isinstance(up, Zero):
        return f"{B} is not zero at init"
    return Factors(B, A, down, (adapter.laws[B].trainable, adapter.laws[A].trainable))


def silence(setting: Setting) -> str | None:
    """Why the Gram engine cannot speak for a setting; None where it can."""
    found = lora_factors(setting.adapter)
    if isinstance(found, str):
        return found
    if not isinstance(found.law, Gaussian) and needs_off_span(setting.claim):
        return f"{found.A} is {found.law.text()}: off the span of the data it is independent of what is in it only for Gaussian entries"
    if not found.trained[0]:
        return f"{found.B} is frozen at zero"
    if setting.optimizer.name not in spans.OPTIMIZERS and setting.claim.steps:
        return f"the steps of {setting.optimizer.name} leave the span of the data"
    return None


@dataclass(frozen=True)
class GramSampler(Sampler):
    """Exact in law for LoRA under SGD, momentum, weight decay and clipping, for any number of steps.

    For Gaussian A the Gram matrix is Wishart's, and rank costs nothing; for another law it is summed over the rows of A, a block
    at a time, and only cost grows with rank. Raises: InputError where `silence` has a reason.
    """

    task: Task

    name = "gram"

    def __post_init__(self) -> None:
        reason = silence(self.task.setting)
        if reason is not None:
            raise InputError(f"engine 'gram' cannot speak: {reason}; ask for the dense engine")
        if not isinstance(self.factors.law, Gaussian):
            object.__setattr__(self, "name", "gram, A materialised")

    @cached_property
    def factors(self) -> Factors:
        found = lora_factors(self.task.setting.adapter)
        assert not isinstance(found, str)
        return found

    @cached_property
    def data(self) -> spans.Span:
        x, probe = self.task.problem.x, self.task.problem.x_probe
        return spans.span(x.reshape(len(x), -1), probe.reshape(len(x), -1))

    @cached_property
    def loss(self) -> spans.Linear:
        return spans.Linear(self.task.problem.v.reshape(len(self.task.problem.v), -1))

    def spread(self, rank: int) -> float:
        """The standard deviation of A's entries."""
        d_in, d_out = len(self.data.Q), self.loss.shape[0]
        sizes = self.task.setting.adapter.axis_sizes(rank, d_in, d_out)
        return self.factors.law.scale({**sizes, "d_in": d_in, "d_out": d_out, "gamma": self.task.gamma(rank)})

    def entries(self, rank: int) -> int:
        k, (p, n) = len(self.data.R), self.loss.shape
        state = (p + k) * k if self._per_draw else 0
        materialised = 0 if isinstance(self.factors.law, Gaussian) else rank * (self.rows.drawn + k)
        return max(1, k * k + (p + k) * n + state * (1 + self.task.setting.claim.steps) + materialised)

    def steps_work(self, rank: int, draws: int) -> float:
        # One small state for all draws, or one each, which `entries` counts; a step of it is some thirty calls of numpy.
        steps = float(self.task.setting.claim.steps)
        return steps * STEP_WORK + (draws * self.entries(rank) if self._per_draw else 0.0)

    @cached_property
    def rows(self) -> Rows:
        return Rows(self.factors.law, self.data.Q)

    def sample(self, rank: int, phase: str, draws: int) -> Sample:
        check_draws(draws)
        self.task.budget.check_work(self.entries(rank), rank=rank)
        block, workers, per_draw = self._block(rank), self._workers(rank, draws), self.bytes_per_draw(rank)
        chunk = self.task.budget.chunk(per_draw * workers, block, rank=rank)

        def work(number: int, held: int) -> list[Sample]:
            return [self._numbers(rank, W, off) for W, off in self._matrices(rank, (phase, rank, number), held, chunk)]

        return joined(rank, over_blocks(work, draws=draws, block=block, workers=workers))

    def _matrices(
        self, rank: int, name: tuple[str | int, ...], draws: int, chunk: int
    ) -> Iterator[tuple[np.ndarray, np.random.Generator | None]]:
        """The Gram matrices of a block at unit spread, in chunks, and the generator of what lies off the span."""
        seed, k = self.task.seed, len(self.data.R)
        off = stream(seed, "gram", *name, "off") if needs_off_span(self.task.setting.claim) else None
        if isinstance(self.factors.law, Gaussian):
            chi, normal = (stream(seed, "gram", *name, what) for what in ("chi", "normal"))
            while draws > 0:
                yield square(wishart_factor(min(chunk, draws), k, rank, chi=chi, normal=normal)), off
                draws -= chunk
            return

        # The matrices of a block are small and kept together; it is the rows that come in chunks.
        def make() -> tuple[np.ndarray]:
            return (self.rows.gram(rank, draws, stream=lambda block: bulk_stream(seed, "gram", *name, "rows", block), chunk=chunk),)

        store = self.task.store
        # Draws come one after another from their streams: fewer are the first of more.
        long = make() if store is None else store.get(("gram", self.rows.key, seed, *name), make, enough=lambda held: len(held[0]) >= draws)
        yield long[0][:draws], off

    def nested(self, ranks: Sequence[int], phase: str, draws: int) -> list[Sample]:
        check_draws(draws)
        self.task.budget.check_work(self.entries(max(ranks)), rank=max(ranks))
        seed, k, law = self.task.seed, len(self.data.R), self.factors.law
        if not law.independent:
            raise InputError(f"A is {law.text()}: its first rows at one rank are not those of another; ask for independent draws")
        block, per_draw = self._block(CHANNELS), self.bytes_per_draw(CHANNELS)
        if isinstance(law, Gaussian):
            self.task.budget.chunk(per_draw * block * 4, 1, rank=max(ranks))
        chunk = self.task.budget.chunk(per_draw, block, rank=max(ranks))

        def work(number: int, held: int) -> list[list[Sample]]:
            tree = NestedWishart(k, held, seed, "gram", "nested", phase, number)

            def matrix(rank: int) -> np.ndarray:
                if isinstance(law, Gaussian):
                    return tree.at(rank)
                rows = self.rows.gram
                return rows(
                    rank, held, stream=lambda b: bulk_stream(seed, "gram", "nested", phase, number, "rows", b), chunk=chunk, whole=True
                )

            # What a probe sees off the span is drawn afresh at each rank: only sums of squares need it.
            return [[self._numbers(rank, matrix(rank), stream(seed, "gram", "nested", phase, number, "off", rank)) for rank in ranks]]

        parts = over_blocks(work, draws=draws, block=block, workers=1)
        return [joined(rank, [part[i] for part in parts]) for i, rank in enumerate(ranks)]

    def bytes_per_draw(self, rank: int) -> int:
        """What one draw holds at most: Gram matrix and factor, states before and after, gradients, moments, outputs, rows."""
        k, (p, n) = len(self.data.R), self.loss.shape
        state = 8 * (p + k) * k if self._per_draw else 0
        rows = 0 if isinstance(self.factors.law, Gaussian) else self.rows.bytes_per_draw(rank)
        return max(8, 8 * (4 * k * k + 3 * (p + k) * n + n * n + state) + rows)

    def second_moment(self, rank: int) -> float | None:
        claim, law = self.task.setting.claim, self.factors.law
        if (
            not law.independent
            or law.standard_moment(1)
            or law.standard_moment(3)
            or self._per_draw
            or claim.quantity not in ("output", "update")
            or claim.statistic not in ("rms", "frobenius")
        ):
            return None
        # E W C W = m**2 (r (r + 1) C + r tr(C) I) + k r D for a sum W of r independent z z', z = Q'a with entries of a symmetric and
        # independent, of variance m and fourth cumulant k: D = sum_i q_i (q_i'C q_i) q_i' over the rows of Q. Wishart's law has k = 0.
        state = self._state(rank, claim.steps)
        columns = state.M @ self.data.R_probe
        C = columns @ columns.T
        scale = self.task.gamma(rank) ** 2 * self.spread(rank) ** 4 * rank
        Q, P = self.data.Q, state.P
        variance, excess = float(law.standard_moment(2)), float(law.standard_cumulant(4))
        D = (Q.T * ((Q @ C) * Q).sum(axis=1)) @ Q
        pairs = (rank + 1) * ((P @ C) * P).sum() + np.trace(C) * (P**2).sum()
        mean = scale * (variance**2 * pairs + excess * ((P @ D) * P).sum())
        p, n = self.loss.shape[0], columns.shape[1]
        return float(mean if claim.statistic == "frobenius" else mean / (p * n))

    @cached_property
    def _per_draw(self) -> bool:
        return bool(self.task.setting.claim.steps) and spans.depends_on_draw(self.loss, self.task.setting.optimizer)

    def _block(self, rank: int) -> int:
        k, (p, n) = len(self.data.R), self.loss.shape
        block = min(BLOCK_DRAWS, BLOCK_ENTRIES // max(1, k * k + (p + k) * (n + k)))
        if not isinstance(self.factors.law, Gaussian):
            block = min(block, BLOCK_ENTRIES // (min(rank, CHANNELS) * (self.rows.drawn + k)))
        return max(1, block)

    def _workers(self, rank: int, draws: int) -> int:
        # Threads cost more than a few blocks of matrices; and fewer workers rather than a refusal where memory is short.
        blocks = -(-draws // self._block(rank))
        useful = blocks // 8 if isinstance(self.factors.law, Gaussian) else blocks
        return max(1, min(WORKERS, useful, self.task.budget.bytes // self.bytes_per_draw(rank)))

    @cached_property
    def _states(self) -> dict[tuple[int, int], spans.State]:
        return {}

    def _state(self, rank: int, steps: int, W: np.ndarray | None = None) -> spans.State:
        """The state after the steps: one for all draws, kept, where the draws do not enter."""
        per_draw = W is not None and self._per_draw
        if per_draw or (rank, steps) not in self._states:
            state = spans.train(
                self.data.R, self.loss, self.task.setting.optimizer, gamma=self.task.gamma(rank), lr=self.task.lr, steps=steps,
                W=W if per_draw else None, trained=self.factors.trained,
            )  # fmt: skip
            if per_draw:
                return state
            self._states[rank, steps] = state
        return self._states[rank, steps]

    def _numbers(self, rank: int, W: np.ndarray, off: np.random.Generator | None) -> Sample:
        """The claim's numbers for Wishart matrices of unit spread."""
        setting, spread = self.task.setting, self.spread(rank)
        W, d_in = W * spread**2, len(self.data.Q)
        off_span = (
            off_span_draws(off, len(W), d_in - len(self.data.R), self.loss.shape[1]) if off and needs_off_span(setting.claim) else None
        )
        seen = Seen(
            claim=setting.claim, factors=self.factors, trained=setting.adapter.trainable, data=self.data, V=self.loss.signals,
            rank=rank, gamma=self.task.gamma(rank), spread=spread,
        )  # fmt: skip

        def after(steps: int, chosen: slice) -> tuple[np.ndarray, bool]:
            mine = None if off_span is None else off_span[chosen]
            with np.errstate(over="ignore", invalid="ignore"):
                return seen.numbers(self._state(rank, steps, W[chosen]), W[chosen], mine)

        values, vanishes = after(setting.claim.steps, slice(None))
        bad = np.flatnonzero(np.isnan(values) | (values == np.inf))
        if not len(bad):
            return Sample(rank, values, vanishes)
        one = slice(int(bad[0]), int(bad[0]) + 1)
        return Sample(
            rank, values, vanishes, diverged=first_divergence(lambda s: bool((after(s, one)[0] < np.inf).all()), setting.claim.steps)
        )
