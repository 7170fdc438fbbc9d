"""The backend that runs the compact transformer by the kernels in C."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rsverify.definitions.optimizers import Optimizer
from rsverify.training.adapters.passes import Part, Pass
from rsverify.training.model.decoder import Decoder
from rsverify.training.model.folding import Folding, finite_batch
from rsverify.training.model.task import Batch, Task, fold
from rsverify.training.native.adam import Stepping, steps_along
from rsverify.training.native.build import Kernels
from rsverify.training.native.decoder import bytes_each
from rsverify.training.native.program import First, Pieces, Program, programs


def prepare(task: Task, decoder: Decoder, *, rank: int, note: str | None = None, data: int = 0) -> Folding:
    """How many configurations of at most that rank go through the kernels at once; note is what is to be told of the kernels.

    Raises: InputError where the loss of the bare model is not finite.
    """
    tokens = finite_batch(task, data)[decoder.tokens]
    each = bytes_each(decoder, rows=tokens.numel(), length=tokens.shape[-1], rank=rank)
    return Folding(True, each, tokens.numel(), (note,) if note else ())


class Native:
    """Args: decoder is the task's model as the kernels take it.

    It takes Adam's step along with the gradients, and reads their norms on the way.
    """

    def __init__(self, task: Task, decoder: Decoder, kernels: Kernels) -> None:
        self.task, self.decoder, self.kernels = task, decoder, kernels
        self._steppings: list[Stepping] = []
        self._programs: dict[int, Program] = {}
        self._passes: Sequence[tuple[int, Sequence[Part]]] = ()
        self._probe = True

    def stepping(self, optimizer: Optimizer, m: Tensor, s: Tensor) -> Stepping | None:
        """The update of some configurations, to be taken along with their gradients; None where it must wait for all gradients."""
        if not steps_along(optimizer):
            return None
        self._steppings.append(Stepping.of(optimizer, m, s))
        return self._steppings[-1]

    def plan(self, passes: Sequence[tuple[int, Sequence[Part]]], *, probe: bool) -> None:
        """The passes of every step, whose programs are made at the first."""
        self._passes, self._probe = passes, probe

    def begin(self, t: int) -> None:
        """Set the constants of step `t`, counted from 1."""
        for stepping in self._steppings:
            stepping.at(t)

    def gradients(self, run: Pass, batches: Sequence[Batch], *, number: int) -> Tensor:
        """The loss of each copy; gradients go into the flat buffers, or the step is taken. `number` is that of the pass."""
        tokens = self._tokens(batches)
        rows, length = tokens.numel() // run.copies, tokens.shape[-1]
        if not self._programs or (self._programs[0].rows, self._programs[0].length) != (rows, length):
            made = programs(self.kernels, self.decoder, self._passes, rows=rows, length=length, probe=self._probe)
            self._programs = dict(enumerate(made))
        program = self._programs[number]
        program.tokens.copy_(tokens.view(program.tokens.shape))
        program.run()
        run.output_square += program.squares
        run.entries[:] = program.entries
        run.gradient_squares = (program.down_squares, program.up_squares)
        return program.losses

    def first(
        self, parts: Sequence[Part], source: Tensor, batches: Sequence[Batch], *, copies: int
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The first step at B = 0 of all configurations, from passes of the bare model over so many batches at once."""
        losses = []
        squares = tuple(torch.zeros(len(source), dtype=self.kernels.dtype) for _ in range(2))
        for lo in range(0, len(batches), copies):
            some = batches[lo : lo + copies]
            tokens = self._tokens(some)
            here = torch.where((source >= lo) & (source < lo + len(some)), source - lo, -1)
            program = Program(
                self.kernels, self.decoder, [], copies=len(some), rows=tokens.numel() // len(some), length=tokens.shape[-1], probe=False,
                arena=Pieces(self.kernels.dtype), first=First(parts, here, *squares),
            )  # fmt: skip
            program.tokens.copy_(tokens.view(program.tokens.shape))
            program.run()
            losses.append(program.losses.clone())
        return torch.cat(losses), (squares[0], squares[1])

    def _tokens(self, batches: Sequence[Batch]) -> Tensor:
        return fold(batches, self.task.examples)[self.decoder.tokens]
