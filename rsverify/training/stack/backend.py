"""What a backend must do: the forward and backward of many configurations, and where it can the step along with them.

A backend knows models, adapters and passes, and nothing of the stack that drives it: which configurations there are, how they share
buffers, when a run is saved or stopped. `autograd.backend.Autograd` runs any model and adapter; `native.backend.Native` runs up- and
down-factors on the compact transformer by kernels in C, and is held against the former.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor

from rsverify.definitions.optimizers import Optimizer
from rsverify.training.adapters.passes import Part, Pass
from rsverify.training.model.task import Batch


class Backend(Protocol):
    """One of a stack's own: it may keep memory between steps."""

    @property
    def kernels(self) -> Any:
        """What draws uniform factors in numpy's place, or None."""
        ...

    def stepping(self, optimizer: Optimizer, m: Tensor, s: Tensor) -> Any:
        """The update of some configurations with these running moments, which `gradients` then takes itself for parts that carry it.

        None where the stack is to step from the gradients.
        """
        ...

    def plan(self, passes: Sequence[tuple[int, Sequence[Part]]], *, probe: bool) -> None:
        """The passes (copies, parts) of every step: what a backend prepares once."""
        ...

    def begin(self, t: int) -> None:
        """The step `t`, counted from 1, is about to be taken."""
        ...

    def gradients(self, run: Pass, batches: Sequence[Batch], *, number: int) -> Tensor:
        """One forward and backward: each copy's loss on its batch; its gradients go into the buffer of its factors.

        What the adapters add goes into `run.output_square` and `run.entries` where `run.probe`; squares of the gradients' norms into
        `run.gradient_squares` where the backend reads them. `number` is that of the pass in its step. Shapes: (copies,).
        """
        ...

    def first(
        self, parts: Sequence[Part], source: Tensor, batches: Sequence[Batch], *, copies: int
    ) -> tuple[Tensor, tuple[Tensor, ...] | None]:
        """The gradients of pairs whose up-factor is zero, from the bare model alone: it may see `copies` batches at once.

        Shapes: source (configurations,), the place of each one's batch; losses (batches,), squares of gradients (configurations,) each.
        """
        ...
