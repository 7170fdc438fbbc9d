"""Whether the native kernels serve a task: whether they compute what it does, and are the faster way."""

from __future__ import annotations

import torch

from rsverify.definitions.laws import Gaussian
from rsverify.definitions.registry import as_adapter
from rsverify.training.blocklinear import Switch
from rsverify.training.configuration import Configuration
from rsverify.training.native import build
from rsverify.training.native.decoder import Decoder
from rsverify.training.stack import Stack
from rsverify.training.task import Task
from rsverify.training.transformer import Transformer

WIDE, WIDE_FOR_FEW = 1024, 256
"""Width of a model from which on torch's own products are as fast: with a configuration for every core, and with fewer, where one product
uses all cores. Measured on two cores."""
LARGE_VOCABULARY = 16_384
"""From which on the kernels, which pack the head anew in every pass, are slower."""

PROBE = as_adapter("lora").with_init(B=Gaussian(std="1/r"))
"""An adapter that moves every layer, so that all gradients speak."""


def decoder_for(task: Task, *, configurations: int, dtype: torch.dtype) -> Decoder | None:
    """The task's model for the kernels; None where they do not know it or one of the task's targets, or would be slower.

    The kernels train each configuration on one core.
    """
    if task.decoder is None or build.kernels(dtype) is None:
        return None
    found = task.decoder(task, dtype)
    if found is None or isinstance(task.model, Transformer):
        return found
    known = {linear.name for block in found.blocks for linear in block.linears.values()}
    wide = WIDE if configurations >= torch.get_num_threads() else WIDE_FOR_FEW
    fast = found.d < wide and found.vocabulary < LARGE_VOCABULARY
    return found if fast and found.is_regular() and set(task.targets) <= known else None


def agrees(task: Task, decoder: Decoder, switch: Switch) -> bool:
    """Whether the kernels find the loss and gradients that the model's own forward and autograd do, with an adapter on every target.

    Asked before every run: a hook, a patch or a later version of another library may compute otherwise. The compact transformer is this
    project's own, and held by its tests. The bounds are chosen, not derived: sound small models stay
    ninety times (loss) and a thousand times (gradients) below them, every other function that was tried lies beyond. They choose between
    two ways to train, and judge no result.
    """
    dtype = decoder.embedding.dtype
    if isinstance(task.model, Transformer):
        return True
    one = [Configuration(4, gamma=1.0, adapter=PROBE, optimizer="sgd")]
    ours, theirs = (Stack(task, one, steps=1, dtype=dtype, copies=1, share_first=False, decoder=way) for way in (decoder, None))
    for stack in (ours, theirs):
        stack.draw()
        stack.advance(switch)
    loss = theirs.logs.loss[0, 0]
    if not (ours.logs.loss[0, 0] - loss).abs() <= 64 * torch.finfo(dtype).eps * loss.abs():
        return False
    (mine,), (other,) = ours.groups, theirs.groups
    whole = torch.linalg.vector_norm(other.g)
    for place in other.places.values():
        expected = place.of(other.g)
        gap = torch.linalg.vector_norm(place.of(mine.g) - expected)
        # Gradients of q and k are small differences: rounding is of the size of the whole.
        if not gap <= 1e-2 * torch.linalg.vector_norm(expected) + 1e-5 * whole:
            return False
    return True
