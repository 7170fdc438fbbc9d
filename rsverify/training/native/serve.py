"""Whether the native kernels serve a task: whether they compute what it does, and are the faster way."""

from __future__ import annotations

import torch

from rsverify.training.native import build
from rsverify.training.native.decoder import Decoder
from rsverify.training.native.program import bare_loss
from rsverify.training.task import Task
from rsverify.training.transformer import Transformer

WIDE, WIDE_FOR_FEW = 1024, 256
"""Widths of a model from which on torch's own products take no longer, with a configuration for every core and with fewer, when one product
on all cores stands against cores that idle: measured on two cores."""


def decoder_for(task: Task, *, configurations: int, dtype: torch.dtype) -> Decoder | None:
    """The task's model for the kernels; None where they do not know it, or one of its linears under that name, or would be no faster.

    They train each configuration on one core.
    """
    if task.decoder is None or build.kernels(dtype) is None:
        return None
    found = task.decoder(task, dtype)
    if found is None or not set(task.targets) <= {linear.name for block in found.blocks for linear in block.linears.values()}:
        return None
    if isinstance(task.model, Transformer):
        return found
    return found if found.d < (WIDE if configurations >= torch.get_num_threads() else WIDE_FOR_FEW) else None


def agrees(task: Task, decoder: Decoder) -> bool:
    """Whether the kernels find the loss that the bare model's own forward does: a later version of another library may compute otherwise.

    Half the digits tell another function from rounding. The compact transformer is this project's own, and held by its tests.
    """
    dtype = decoder.embedding.dtype
    kernels = build.kernels(dtype)
    if kernels is None or isinstance(task.model, Transformer):
        return True
    batch = task.batch(0, 0)
    with torch.no_grad():
        theirs = float(task.losses(task.model, batch, 1)[0])
        ours = bare_loss(kernels, decoder, batch[decoder.tokens])
    return abs(ours - theirs) <= torch.finfo(dtype).eps ** 0.5 * abs(theirs)
