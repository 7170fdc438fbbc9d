"""The machine that steps many configurations at once: one forward and backward for a chunk of them, one step for all."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from rsverify.training import compact
from rsverify.training.adapters.attach import linear_at
from rsverify.training.autograd.block_linear import Part, Pass, Switch
from rsverify.training.model.task import Batch, Task, fold
from rsverify.training.model.transformer import Transformer
from rsverify.training.native import adam
from rsverify.training.native import build as native
from rsverify.training.native.build import Kernels
from rsverify.training.native.decoder import Decoder
from rsverify.training.native.program import First, Pieces, Program, programs
from rsverify.training.stack.configuration import Configuration
from rsverify.training.stack.layout import Allocate, Group, build_groups
from rsverify.training.stack.stepping import States, new_states, step


@dataclass
class Logs:
    """What is read at every step, kept where it is computed. Shapes: (steps, configurations)."""

    loss: Tensor
    down_square: Tensor
    up_square: Tensor
    output_square: Tensor


class Stack:
    """Some configurations, their factors, gradients, optimizer states and logs, in the order of `layout.order`.

    Args: copies is how many configurations go through the model at once; decoder is the task's model where the native kernels serve.
    """

    def __init__(
        self,
        task: Task,
        configurations: Sequence[Configuration],
        *,
        steps: int,
        dtype: torch.dtype,
        copies: int,
        probe: bool = True,
        share_first: bool = True,
        allocate: Allocate = torch.zeros,
        decoder: Decoder | None = None,
    ) -> None:
        self.task, self.configurations, self.steps = task, tuple(configurations), steps
        self.copies, self.probe, self.share_first = copies, probe, share_first
        self.groups = build_groups(task.model, configurations, task.targets, dtype=dtype, allocate=allocate)
        self.states: list[list[States]] = [
            [new_states(group, rows, optimizer, allocate) for rows, optimizer in group.runs] for group in self.groups
        ]
        device = linear_at(task.model, task.targets[0]).weight.device
        count = len(configurations)
        self.logs = Logs(*(allocate((steps, count), device=device, dtype=dtype) for _ in range(4)))
        # Entries of what the adapters add, for the mean: one number for a configuration, the same at every step.
        self.entries = allocate((count,), dtype=torch.float64).numpy()
        self.done = allocate((1,), dtype=torch.int64).numpy()  # the host's own: counting steps waits for no device
        self.decoder = decoder
        self.by_hand = decoder is None and compact.applies(task, dtype=dtype)
        self._native = native.kernels(dtype) if decoder is not None else None
        self._steppings = self._updates() if self._native is not None else {}
        self._programs: list[Program] = []
        self._cuts: list[tuple[int, list[Part], dict[str, list[tuple[Part, str]]]]] = []
        self._anchor = torch.zeros((), device=device, dtype=torch.float32, requires_grad=True)

    def draw(self) -> None:
        for group in self.groups:
            group.draw(self._native)

    def advance(self, switch: Switch) -> None:
        """One step of every configuration: gradients, logs, optimizer; the native kernels take Adam's step with the gradients."""
        at = int(self.done[0])
        for stepping in self._steppings.values():
            stepping.at(at + 1)
        if at == 0 and self.share_first and all(group.starts_at_zero for group in self.groups):
            self._first_gradients(switch)
        else:
            for number, part in enumerate(self._chunks()):
                self._gradients(switch, part, at, number)
        for g, (group, states) in enumerate(zip(self.groups, self.states, strict=True)):
            mine = slice(group.lo, group.lo + group.size)
            if self._native is None:
                for name, log in ((group.down, self.logs.down_square), (group.up, self.logs.up_square)):
                    if group.trains[name]:
                        log[at, mine] = _row_squares(group.g[:, group.factor_columns(name)])
            for k, ((rows, optimizer), state) in enumerate(zip(group.runs, states, strict=True)):
                if (g, k) not in self._steppings:
                    bounded = optimizer.option("clip")
                    norms = (self.logs.down_square[at, mine] + self.logs.up_square[at, mine])[rows].sqrt_() if bounded else None
                    step(group, rows, optimizer, state, t=at + 1, norms=norms)
            group.refresh()
        self.done[0] = at + 1

    def row(self, row: int) -> dict[str, Tensor]:
        """All that one configuration has become, as views: its factors, running moments and logs."""
        g, group = next((k, group) for k, group in enumerate(self.groups) if group.lo <= row < group.lo + group.size)
        at = row - group.lo
        found = {"w": group.w[at], "entries": torch.from_numpy(self.entries[row : row + 1])}
        for (rows, _), states in zip(group.runs, self.states[g], strict=True):
            if rows.start <= at < rows.stop:
                found |= {f"state.{name}": value[at - rows.start] for name, value in states.items()}
        return found | {f"log.{name}": value[:, row] for name, value in vars(self.logs).items()}

    def evaluate(self, switch: Switch, batch: Batch) -> Tensor:
        """The loss of every configuration on a batch of any number of examples, its factors as they are. Shapes: (configurations,)."""
        found, examples = [], self.task.examples_of(batch)
        with torch.no_grad():
            for parts in self._chunks(probe=False):
                found.append(self._losses(switch, parts, fold([batch] * parts.copies, examples)))
        return torch.cat(found)

    def _gradients(self, switch: Switch, run: Pass, at: int, number: int) -> None:
        lo = self._place(run)
        mine = slice(lo, lo + run.copies)
        batches: dict[int, Batch] = {}
        for c in self.configurations[mine]:
            if c.data not in batches:
                batches[c.data] = self.task.batch(at, c.data)
        losses = self._backward(switch, run, [batches[c.data] for c in self.configurations[mine]], number, at)
        self.logs.loss[at, mine] = losses.to(self.logs.loss.dtype)
        self._log_output(run, mine, at)

    def _backward(self, switch: Switch, run: Pass, batches: Sequence[Batch], number: int = 0, at: int = 0) -> Tensor:
        """The loss of each copy; gradients go where the pass says. `number` is that of the chunk, `at` that of the step."""
        if self._native is not None:
            return self._run_program(self._native, run, self._tokens(batches), number, at)
        if self.by_hand:
            assert isinstance(self.task.model, Transformer)
            return compact.gradients(self.task.model, run, fold(batches, self.task.examples)["tokens"])
        losses = self._losses(switch, run, fold(batches, self.task.examples))
        losses.sum().backward()
        return losses.detach()

    def _run_program(self, kernels: Kernels, run: Pass, tokens: Tensor, number: int, at: int) -> Tensor:
        """As `compact.gradients`, by the native kernels, which read the gradients' norms on their way."""
        model = self.decoder
        assert model is not None
        rows, length = tokens.numel() // run.copies, tokens.shape[-1]
        if not self._programs or (self._programs[0].rows, self._programs[0].length) != (rows, length):
            cuts = [(copies, parts) for copies, parts, _ in self._cuts]
            self._programs = programs(kernels, model, cuts, rows=rows, length=length, probe=self.probe)
        program = self._programs[number]
        program.tokens.copy_(tokens.view(program.tokens.shape))
        program.run()
        run.output_square += program.squares
        run.entries[:] = program.entries
        lo = self._place(run)
        self.logs.down_square[at, lo : lo + run.copies] = program.down_squares
        self.logs.up_square[at, lo : lo + run.copies] = program.up_squares
        return program.losses

    def _tokens(self, batches: Sequence[Batch]) -> Tensor:
        assert self.decoder is not None
        return fold(batches, self.task.examples)[self.decoder.tokens]

    def _losses(self, switch: Switch, run: Pass, folded: Batch) -> Tensor:
        switch.run = run
        try:
            return self.task.losses(self.task.model, folded, run.copies)
        finally:
            switch.run = None

    def _log_output(self, run: Pass, mine: slice, at: int) -> None:
        if run.probe:
            self.logs.output_square[at, mine] = run.output_square.to(self.logs.output_square.dtype)
            self.entries[mine] = run.entries

    def _first_gradients(self, switch: Switch) -> None:
        """At B = 0 every configuration with the same data sees the bare model: grad_B = gamma V'(X A'), grad_A = 0.

        One forward and backward of the bare model, a pass without parts whose linears hand over X and V, serves them all.
        """
        sources = sorted({c.data for c in self.configurations})
        if self._native is not None:
            for lo in range(0, len(sources), self.copies):
                self._first_program(self._native, sources[lo : lo + self.copies])
            return
        for group in self.groups:
            group.g.zero_()
        for data in sources:
            run = self._pass([], copies=1, probe=False)
            run.reader = partial(_read_first, self.groups, data)
            losses = self._backward(switch, run, [self.task.batch(0, data)])
            for i, c in enumerate(self.configurations):
                if c.data == data:
                    self.logs.loss[0, i] = losses[0]

    def _first_program(self, kernels: Kernels, sources: Sequence[int]) -> None:
        """The first step of all configurations with these data by the native kernels."""
        model, tokens = self.decoder, self._tokens([self.task.batch(0, data) for data in sources])
        assert model is not None
        source = torch.tensor([sources.index(c.data) if c.data in sources else -1 for c in self.configurations])
        parts = list(self._parts_of(0, len(self.configurations)))
        first = First(parts, source, self.logs.down_square[0], self.logs.up_square[0])
        program = Program(
            kernels, model, [], copies=len(sources), rows=tokens.numel() // len(sources), length=tokens.shape[-1], probe=False,
            arena=Pieces(kernels.dtype), first=first,
        )  # fmt: skip
        program.tokens.copy_(tokens.view(program.tokens.shape))
        program.run()
        mine = source >= 0
        self.logs.loss[0, mine] = program.losses[source[mine]]

    def _chunks(self, probe: bool | None = None) -> Iterator[Pass]:
        """Passes of at most `copies` neighbouring configurations, of nearly equal size; what does not change is made once."""
        if not self._cuts:
            self._cuts = list(self._cut())
        for copies, parts, plans in self._cuts:
            run = self._pass(parts, copies=copies, probe=self.probe if probe is None else probe)
            run.plans = plans
            yield run

    def _cut(self) -> Iterator[tuple[int, list[Part], dict[str, list[tuple[Part, str]]]]]:
        count = len(self.configurations)
        chunks = -(-count // self.copies)
        edges = [count * k // chunks for k in range(chunks + 1)]
        for lo, hi in itertools.pairwise(edges):
            yield hi - lo, list(self._parts_of(lo, hi)), {}

    def _parts_of(self, lo: int, hi: int) -> Iterator[Part]:
        """The configurations [lo, hi) of the stack by group, and by optimizer where the kernels take its step."""
        for g, group in enumerate(self.groups):
            for k, (rows, _) in enumerate(group.runs if self._steppings else [(slice(0, group.size), None)]):
                first, last = max(lo, group.lo + rows.start), min(hi, group.lo + rows.stop)
                if first < last:
                    mine = slice(first - group.lo, last - group.lo)
                    stepping = self._steppings.get((g, k))
                    own = stepping and stepping.rows(slice(mine.start - rows.start, mine.stop - rows.start))
                    yield Part(group, first - lo, last - lo, mine, own)

    def _updates(self) -> dict[tuple[int, int], adam.Stepping]:
        """What the native kernels step along at once, by group and run."""
        return {
            (g, k): adam.Stepping.of(optimizer, states["m"], states["s"])
            for g, group in enumerate(self.groups)
            for k, ((_, optimizer), states) in enumerate(zip(group.runs, self.states[g], strict=True))
            if adam.steps_along(optimizer)
        }

    def _pass(self, parts: list[Part], *, copies: int, probe: bool) -> Pass:
        square = torch.zeros(copies, device=self._anchor.device, dtype=self.logs.loss.dtype)
        return Pass(copies, parts, probe, square, self._anchor, [0] * copies)

    def _place(self, run: Pass) -> int:
        first = run.parts[0]
        return first.group.lo + first.rows.start - first.lo


def _read_first(groups: Sequence[Group], data: int, name: str, X: Tensor, V: Tensor) -> None:
    """Gradients of the up-factors at B = 0, added to the flat buffers: gamma V'(X A') or gamma (V'X) A', whichever is cheaper.

    Shapes: X (1, n, d_in), V (1, n, d_out).
    """
    (n, d_in), d_out = X.shape[1:], V.shape[2]
    mine = [group for group in groups if (name, group.up) in group.places and group.trains[group.up]]
    ranks = sum(group.rank * group.size for group in mine)
    G = torch.bmm(V.mT, X) if n * d_in * d_out + ranks * d_in * d_out < ranks * n * (d_in + d_out) else None
    for group in mine:
        rows = [i for i, c in enumerate(group.configurations) if c.data == data]
        if not rows:
            continue
        at: slice | list[int] = slice(None) if len(rows) == group.size else rows
        A, gamma = group.places[name, group.down].of(group.acting)[at], group.gamma[at].to(X.dtype)
        count = A.shape[0]
        if G is not None:
            found = torch.bmm(G.expand(count, d_out, d_in), A.mT)
        else:
            found = torch.bmm(V.mT.expand(count, d_out, n), torch.bmm(X.expand(count, n, d_in), A.mT))
        group.places[name, group.up].of(group.g)[at] += found * gamma


def _row_squares(values: Tensor) -> Tensor:
    """Squared norm of every row."""
    return torch.linalg.vector_norm(values, dim=1).square_()
