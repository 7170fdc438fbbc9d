"""Whether the native kernels serve a task: whether they compute what it does, and are the faster way."""

from __future__ import annotations

import torch

from rsverify.training.native import build
from rsverify.training.native.decoder import Decoder
from rsverify.training.native.program import bare_loss
from rsverify.training.task import Task
from rsverify.training.transformer import Transformer

WIDE = 512
"""Width of a model from which on one product is worth several cores."""


def decoder_for(task: Task, *, configurations: int, dtype: torch.dtype) -> Decoder | None:
    """The task's model for the kernels; None where they do not know it, or none of its linears under that name.

    They train each configuration on one core: other libraries' wide models go without them where configurations are fewer than cores.
    """
    if task.decoder is None or build.kernels(dtype) is None:
        return None
    found = task.decoder(task, dtype)
    if found is None or not set(task.targets) <= {linear.name for block in found.blocks for linear in block.linears.values()}:
        return None
    few = configurations < torch.get_num_threads() and not isinstance(task.model, Transformer)
    return None if few and found.d >= WIDE else found


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
