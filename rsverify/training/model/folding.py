"""How many configurations of a task go through its model at once, and that its loss is one to start from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rsverify.errors import InputError
from rsverify.training.model.task import Batch, Task


@dataclass(frozen=True)
class Folding:
    """What one configuration saves for its backward pass (`bytes_each`), the rows that a target sees of it (`tokens`), and notes."""

    together: bool
    bytes_each: int
    tokens: int
    notes: tuple[str, ...] = ()

    def copies(self, memory: int) -> int:
        """How many configurations go through the model at once, their saved activations within the memory."""
        return max(1, memory // self.bytes_each) if self.together else 1

    def with_weights(self, widths: Sequence[tuple[int, int]], *, itemsize: int) -> Folding:
        """The same for adapters that make a weight for each configuration on their way: three such a linear, and its output twice."""
        more = itemsize * sum(3 * d_out * d_in + 2 * self.tokens * d_out for d_out, d_in in widths)
        return replace(self, bytes_each=self.bytes_each + more)

    def noted(self, note: str) -> Folding:
        return replace(self, notes=(*self.notes, note))


def finite_batch(task: Task, data: int = 0) -> Batch:
    """The first batch, on which the bare model's loss is finite."""
    batch = task.batch(0, data)
    with torch.no_grad():
        refuse_infinite(losses_of(task, batch, 1))
    return batch


def refuse_infinite(losses: Tensor) -> None:
    """Raises: InputError where the loss of the bare model is not finite."""
    if not bool(losses.isfinite().all()):
        raise InputError(
            f"the loss of the bare model is {float(losses[0].detach())}: nothing can be trained from there; look at the data and dtype"
        )


def losses_of(task: Task, batch: Batch, copies: int) -> Tensor:
    """The loss of every copy. Shapes: (copies,). Raises: InputError for any other shape."""
    losses = task.losses(task.model, batch, copies)
    if not (isinstance(losses, Tensor) and losses.shape == (copies,)):
        shown = f"shape {tuple(losses.shape)}" if isinstance(losses, Tensor) else type(losses).__name__
        raise InputError(f"task {task.name!r}: losses returned {shown} for {copies} copies; expected one loss per copy, shape ({copies},)")
    return losses
