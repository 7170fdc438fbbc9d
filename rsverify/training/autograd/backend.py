"""The backend that runs any model by its own forward, hooks on its linears and torch.autograd."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from rsverify.training.adapters.factors import Factors
from rsverify.training.adapters.passes import Part, Pass
from rsverify.training.autograd.block_linear import Switch, Work
from rsverify.training.model.linears import linear_at
from rsverify.training.model.task import Batch, Task, fold


class Autograd:
    """Args: switch is that of the task's patched model."""

    kernels = None

    def __init__(self, task: Task, switch: Switch) -> None:
        self.task, self.switch = task, switch
        device = linear_at(task.model, task.targets[0]).weight.device
        self._anchor = torch.zeros((), device=device, dtype=torch.float32, requires_grad=True)

    def stepping(self, optimizer: Any, m: Tensor, s: Tensor) -> None:
        """No update is taken along with the gradients."""
        return

    def plan(self, passes: Sequence[tuple[int, Sequence[Part]]], *, probe: bool) -> None:
        """Nothing is prepared."""

    def begin(self, t: int) -> None:
        """Nothing depends on the step."""

    def gradients(self, run: Pass, batches: Sequence[Batch], *, number: int) -> Tensor:
        """The loss of each copy; gradients go into the flat buffers."""
        work = Work(run, self._anchor)
        losses = self._losses(work, fold(batches, self.task.examples))
        losses.sum().backward()
        work.settle()
        return losses.detach()

    def first(self, parts: Sequence[Part], source: Tensor, batches: Sequence[Batch], *, copies: int) -> tuple[Tensor, None]:
        """At B = 0 every configuration with the same data sees the bare model: grad_B = gamma V'(X A'), grad_A = 0.

        One forward and backward of the bare model for each batch, a pass without parts whose linears hand over X and V, serves them all.
        Shapes: source (configurations,), the place of each one's batch; the losses (batches,).
        """
        for part in parts:
            part.factors.g.zero_()
        losses = []
        for k, batch in enumerate(batches):
            run = Pass(1, [], False, torch.zeros(1, device=self._anchor.device), [0])
            work = Work(run, self._anchor, reader=partial(_read_first, parts, source.tolist(), k))
            loss = self._losses(work, fold([batch], self.task.examples))
            loss.sum().backward()
            losses.append(loss.detach()[0])
        return torch.stack(losses), None

    def losses(self, run: Pass, batch: Batch, examples: int) -> Tensor:
        """The loss of each copy on one batch of so many examples, without gradients."""
        with torch.no_grad():
            return self._losses(Work(run, self._anchor), fold([batch] * run.copies, examples))

    def _losses(self, work: Work, folded: Batch) -> Tensor:
        self.switch.work = work
        try:
            return self.task.losses(self.task.model, folded, work.run.copies)
        finally:
            self.switch.work = None


def _read_first(parts: Sequence[Part], source: Sequence[int], batch: int, name: str, X: Tensor, V: Tensor) -> None:
    """Gradients of the up-factors at B = 0, added to the flat buffers: gamma V'(X A') or gamma (V'X) A', whichever is cheaper.

    Shapes: X (1, n, d_in), V (1, n, d_out).
    """
    (n, d_in), d_out = X.shape[1:], V.shape[2]
    adapting = [part for part in parts if part.factors.adapts(name) and part.factors.trains[part.factors.up]]
    ranks = sum(part.factors.rank * (part.hi - part.lo) for part in adapting)
    G = torch.bmm(V.mT, X) if n * d_in * d_out + ranks * d_in * d_out < ranks * n * (d_in + d_out) else None
    for part in adapting:
        factors: Factors = part.factors
        rows = [row for row in range(part.rows.start, part.rows.stop) if source[part.lo + row - part.rows.start] == batch]
        if not rows:
            continue
        at: slice | list[int] = part.rows if len(rows) == part.hi - part.lo else rows
        A, gamma = factors.places[name, factors.down].of(factors.acting)[at], factors.gamma[at].to(X.dtype)
        count = A.shape[0]
        if G is not None:
            gradient = torch.bmm(G.expand(count, d_out, d_in), A.mT)
        else:
            gradient = torch.bmm(V.mT.expand(count, d_out, n), torch.bmm(X.expand(count, n, d_in), A.mT))
        factors.places[name, factors.up].of(factors.g)[at] += gradient * gamma
