"""Whether a model lets configurations be folded into its batch axis, as its own forward shows."""

from __future__ import annotations

import torch
from torch import Tensor

from rsverify.errors import InputError
from rsverify.training.autograd.block_linear import Switch
from rsverify.training.model.folding import Folding, losses_of, refuse_infinite
from rsverify.training.model.task import Batch, Task, fold


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
        alone = losses_of(task, batch, 1)
    switch.scale, rows = None, switch.rows
    refuse_infinite(alone)
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
        other = losses_of(task, batch, 1)
        switch.scale = torch.tensor([1.0, 0.5], device=alone.device)
        try:
            both = losses_of(task, fold([batch, batch], task.examples), 2)
        except RuntimeError:  # shapes that do not fold
            return False
        finally:
            switch.scale = None
    expected = torch.cat([alone, other])
    close = torch.finfo(expected.dtype).eps ** 0.5
    return bool(((both - expected).abs() <= close * expected.abs()).all())
