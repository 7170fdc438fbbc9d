"""The machine that steps many configurations at once: one forward and backward for a chunk of them, one step for all."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rsverify.training.adapters.passes import Part, Pass
from rsverify.training.autograd.backend import Autograd
from rsverify.training.model.linears import linear_at
from rsverify.training.model.task import Batch, Task
from rsverify.training.stack.backend import Backend
from rsverify.training.stack.configuration import Configuration
from rsverify.training.stack.layout import Allocate, build_groups
from rsverify.training.stack.stepping import States, new_states, step


@dataclass
class Logs:
    """What is read at every step, kept where it is computed; squares of gradients by the place of the factor's name.

    Shapes: (steps, configurations) each.
    """

    loss: Tensor
    output_square: Tensor
    gradient_squares: list[Tensor]

    def named(self) -> dict[str, Tensor]:
        squares = {f"gradient_square.{k}": value for k, value in enumerate(self.gradient_squares)}
        return {"loss": self.loss, "output_square": self.output_square, **squares}


class Stack:
    """Some configurations, their factors, gradients, optimizer states and logs, in the order of `layout.order`.

    Args: copies is how many configurations go through the model at once; backend is this stack's own.
    """

    def __init__(
        self,
        task: Task,
        configurations: Sequence[Configuration],
        *,
        backend: Backend,
        steps: int,
        dtype: torch.dtype,
        copies: int,
        probe: bool = True,
        share_first: bool = True,
        allocate: Allocate = torch.zeros,
    ) -> None:
        self.task, self.configurations, self.steps, self.backend = task, tuple(configurations), steps, backend
        self.copies, self.probe, self.share_first = copies, probe, share_first
        self.groups = build_groups(task.model, configurations, task.targets, dtype=dtype, allocate=allocate)
        self.states: list[list[States]] = [
            [new_states(group, rows, optimizer, allocate) for rows, optimizer in group.runs] for group in self.groups
        ]
        device = linear_at(task.model, task.targets[0]).weight.device
        count, names = len(configurations), max(len(group.factors.names) for group in self.groups)
        loss, output, *squares = (allocate((steps, count), device=device, dtype=dtype) for _ in range(2 + names))
        self.logs = Logs(loss, output, squares)
        # Entries of what the adapters add, for the mean: one number for a configuration, the same at every step.
        self.entries = allocate((count,), dtype=torch.float64).numpy()
        self.done = allocate((1,), dtype=torch.int64).numpy()  # the host's own: counting steps waits for no device
        self._steppings = {
            (g, k): stepping
            for g, group in enumerate(self.groups)
            for k, ((_, optimizer), states) in enumerate(zip(group.runs, self.states[g], strict=True))
            if {"m", "s"} <= set(states) and (stepping := backend.stepping(optimizer, states["m"], states["s"])) is not None
        }
        self._cuts = list(self._cut())
        backend.plan(self._cuts, probe=probe)

    def draw(self) -> None:
        for group in self.groups:
            group.draw(self.backend.kernels)

    def advance(self) -> None:
        """One step of every configuration: gradients, logs, optimizer; a backend may take the step with the gradients."""
        at = int(self.done[0])
        self.backend.begin(at + 1)
        if at == 0 and self.share_first and all(group.starts_at_zero for group in self.groups):
            read = self._first_gradients()
        else:
            read = [self._gradients(run, at, number) for number, run in enumerate(self._passes(self.probe))][-1]
        for g, (group, states) in enumerate(zip(self.groups, self.states, strict=True)):
            here, factors = slice(group.lo, group.lo + group.size), group.factors
            if not read:
                for k, name in enumerate(factors.names):
                    if factors.trains[name]:
                        self.logs.gradient_squares[k][at, here] = _row_squares(factors.g[:, factors.columns_of(name)])
            for k, ((rows, optimizer), state) in enumerate(zip(group.runs, states, strict=True)):
                if (g, k) not in self._steppings:
                    norms = self._norms(at, here)[rows] if optimizer.option("clip") else None
                    step(group, rows, optimizer, state, t=at + 1, norms=norms)
            factors.refresh()
        self.done[0] = at + 1

    def row(self, row: int) -> dict[str, Tensor]:
        """All that one configuration has become, as views: its factors, running moments and logs."""
        g, group = next((k, group) for k, group in enumerate(self.groups) if group.lo <= row < group.lo + group.size)
        at = row - group.lo
        values = {"w": group.factors.w[at], "entries": torch.from_numpy(self.entries[row : row + 1])}
        for (rows, _), states in zip(group.runs, self.states[g], strict=True):
            if rows.start <= at < rows.stop:
                values |= {f"state.{name}": value[at - rows.start] for name, value in states.items()}
        return values | {f"log.{name}": value[:, row] for name, value in self.logs.named().items()}

    def evaluate(self, autograd: Autograd, batch: Batch) -> Tensor:
        """The loss of every configuration on a batch of any number of examples, its factors as they are. Shapes: (configurations,)."""
        examples = self.task.examples_of(batch)
        return torch.cat([autograd.losses(run, batch, examples) for run in self._passes(False)])

    def _norms(self, at: int, here: slice) -> Tensor:
        return torch.stack([square[at, here] for square in self.logs.gradient_squares]).sum(0).sqrt_()

    def _gradients(self, run: Pass, at: int, number: int) -> bool:
        """One pass; returns whether the backend has read the gradients' norms."""
        first = run.parts[0]
        lo = self._lo(first)
        here = slice(lo, lo + run.copies)
        batches: dict[int, Batch] = {}
        for c in self.configurations[here]:
            if c.data not in batches:
                batches[c.data] = self.task.batch(at, c.data)
        losses = self.backend.gradients(run, [batches[c.data] for c in self.configurations[here]], number=number)
        self.logs.loss[at, here] = losses.to(self.logs.loss.dtype)
        if run.probe:
            self.logs.output_square[at, here] = run.output_square.to(self.logs.output_square.dtype)
            self.entries[here] = run.entries
        for log, squares in zip(self.logs.gradient_squares, run.gradient_squares or (), strict=False):
            log[at, here] = squares
        return run.gradient_squares is not None

    def _first_gradients(self) -> bool:
        """The first step of configurations that add nothing yet: one pass of the bare model for each stream of batches."""
        sources = sorted({c.data for c in self.configurations})
        source = torch.tensor([sources.index(c.data) for c in self.configurations])
        batches = [self.task.batch(0, data) for data in sources]
        parts = list(self._parts_of(0, len(self.configurations)))
        losses, squares = self.backend.first(parts, source, batches, copies=self.copies)
        self.logs.loss[0] = losses[source.to(losses.device)].to(self.logs.loss.dtype)
        for log, values in zip(self.logs.gradient_squares, squares or (), strict=False):
            log[0] = values
        return squares is not None

    def _passes(self, probe: bool) -> Iterator[Pass]:
        """Passes of at most `copies` neighbouring configurations, of nearly equal size."""
        for copies, parts in self._cuts:
            square = torch.zeros(copies, device=self.logs.loss.device, dtype=self.logs.loss.dtype)
            yield Pass(copies, parts, probe, square, [0] * copies)

    def _cut(self) -> Iterator[tuple[int, list[Part]]]:
        count = len(self.configurations)
        chunks = -(-count // self.copies)
        edges = [count * k // chunks for k in range(chunks + 1)]
        for lo, hi in itertools.pairwise(edges):
            yield hi - lo, list(self._parts_of(lo, hi))

    def _parts_of(self, lo: int, hi: int) -> Iterator[Part]:
        """The configurations [lo, hi) of the stack by group, and by optimizer where a backend takes its step."""
        for g, group in enumerate(self.groups):
            for k, (rows, _) in enumerate(group.runs if self._steppings else [(slice(0, group.size), None)]):
                first, last = max(lo, group.lo + rows.start), min(hi, group.lo + rows.stop)
                if first < last:
                    here = slice(first - group.lo, last - group.lo)
                    stepping = self._steppings.get((g, k))
                    own = stepping and stepping.rows(slice(here.start - rows.start, here.stop - rows.start))
                    yield Part(group.factors, first - lo, last - lo, here, own)

    def _lo(self, part: Part) -> int:
        """The place in the stack at which the pass of its first part begins."""
        group = next(group for group in self.groups if group.factors is part.factors)
        return group.lo + part.rows.start - part.lo


def _row_squares(values: Tensor) -> Tensor:
    """Squared norm of every row."""
    return torch.linalg.vector_norm(values, dim=1).square_()
