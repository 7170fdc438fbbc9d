"""Whether a model lets configurations be folded into its batch axis, and how many of them fit in memory at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rsverify.errors import InputError
from rsverify.training.autograd.block_linear import Switch
from rsverify.training.compact import bytes_each
from rsverify.training.model.task import Batch, Task, fold
from rsverify.training.model.transformer import Transformer
from rsverify.training.native.decoder import Decoder


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


def prepare_by_hand(task: Task, *, note: str | None = None, data: int = 0) -> Folding:
    """As `prepare`, for the compact transformer, whose passes are known to keep copies apart.

    Args: note says why the native kernels do not serve.
    """
    batch = _finite_batch(task, data)
    assert isinstance(task.model, Transformer)
    rows, length = batch["tokens"].numel(), batch["tokens"].shape[-1]
    each = bytes_each(task.model, rows=rows, length=length, itemsize=task.model.embedding.weight.element_size())
    return Folding(True, each, rows, (note,) if note else ())


def prepare_native(task: Task, decoder: Decoder, *, rank: int, note: str | None = None, data: int = 0) -> Folding:
    """As `prepare`, for a decoder that the native kernels take; rank is the largest of the run, note what is to be told of the kernels."""
    tokens = _finite_batch(task, data)[decoder.tokens]
    each = decoder.bytes_each(rows=tokens.numel(), length=tokens.shape[-1], rank=rank)
    return Folding(True, each, tokens.numel(), (note,) if note else ())


def prepare(task: Task, switch: Switch, *, data: int = 0) -> Folding:
    """Run the bare model on one batch, then on two copies whose targets' outputs differ: each must show its own loss.

    Raises: InputError where the losses have not the expected shape, the loss of the bare model is not finite, or a target is
        never called by the model's forward.
    """
    batch = task.batch(0, data)
    saved: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if not isinstance(tensor, torch.nn.Parameter):
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    device = next(task.model.parameters()).device
    switch.scale = torch.ones(1, device=device).requires_grad_()
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        alone = _losses(task, batch, 1)
    switch.scale, rows = None, switch.rows
    _finite(alone)
    silent = [name for name in task.targets if name not in switch.called]
    if silent:
        raise InputError(
            f"targets={silent[0]!r} is never called in the model's forward ({len(silent)} such): its weight is read directly,"
            " or that part is not in use; leave it out of the targets"
        )
    each = max(sum(saved.values()), 1)
    if not task.foldable:
        return Folding(False, each, rows, ("the loss is made inside the model: configurations run one after another",))
    if not _keeps_copies_apart(task, switch, batch, alone.detach()):
        return Folding(False, each, rows, ("the model mixes the rows of its batch: configurations run one after another",))
    return Folding(True, each, rows)


def _keeps_copies_apart(task: Task, switch: Switch, batch: Batch, alone: Tensor) -> bool:
    """Whether two copies run together show the losses that each shows alone, one copy's targets turned down by half.

    A row that leaks into another moves the first digits of a loss, rounding the last: half the digits tell them apart.
    """
    with torch.no_grad():
        switch.scale = torch.tensor([0.5], device=alone.device)
        other = _losses(task, batch, 1)
        switch.scale = torch.tensor([1.0, 0.5], device=alone.device)
        try:
            both = _losses(task, fold([batch, batch], task.examples), 2)
        except RuntimeError:  # shapes that do not fold
            return False
        finally:
            switch.scale = None
    expected = torch.cat([alone, other])
    close = torch.finfo(expected.dtype).eps ** 0.5
    return bool(((both - expected).abs() <= close * expected.abs()).all())


def _finite_batch(task: Task, data: int) -> Batch:
    """The first batch, on which the bare model's loss is finite."""
    batch = task.batch(0, data)
    with torch.no_grad():
        _finite(_losses(task, batch, 1))
    return batch


def _finite(losses: Tensor) -> None:
    if not bool(losses.isfinite().all()):
        raise InputError(
            f"the loss of the bare model is {float(losses[0].detach())}: nothing can be trained from there; look at the data and dtype"
        )


def _losses(task: Task, batch: Batch, copies: int) -> Tensor:
    found = task.losses(task.model, batch, copies)
    if not (isinstance(found, Tensor) and found.shape == (copies,)):
        shown = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise InputError(f"task {task.name!r}: losses returned {shown} for {copies} copies; expected one loss per copy, shape ({copies},)")
    return found
