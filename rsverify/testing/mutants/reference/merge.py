"""Merging into the base weight and back."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rsverify.testing.mutants.reference.slots import Adapted, Slot


def wide(m: Adapted) -> tuple[Tensor, Tensor | None]:
    """What the active slot adds to weight and bias, computed in at least float32: nothing is rounded before the sum."""
    dtype = torch.promote_types(m.base.weight.dtype, torch.float32)
    slot = Slot({}, {name: value.to(dtype) for name, value in m.slot.factors().items()}, m.slot.rank, m.slot.alpha)
    slot.s = m.slot.s
    return m.kit.delta(m, slot, m.base.weight.to(dtype)), m.kit.offset(m, slot)


@torch.no_grad()
def merged(m: Adapted) -> None:
    if m.kept is not None:
        return
    weight, bias = m.base.weight, m.base.bias
    delta, offset = wide(m)
    m.kept = (weight.detach().clone(), None if bias is None else bias.detach().clone())
    weight.copy_(weight.to(delta.dtype) + delta)
    if offset is not None and bias is None:
        m.base.bias = nn.Parameter(offset.to(weight.dtype), requires_grad=False)
    elif offset is not None:
        bias.copy_(bias.to(offset.dtype) + offset)


@torch.no_grad()
def unmerged(m: Adapted) -> None:
    if m.kept is None:
        return
    weight, bias = m.kept
    m.base.weight.copy_(weight)
    if bias is None:
        m.base.bias = None  # type: ignore[assignment]
    else:
        m.base.bias.copy_(bias)
    m.kept = None
