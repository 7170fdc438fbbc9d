"""Experts, each a product over all rows, weighted by a router."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rsverify.conformance import Part
from rsverify.testing.mutants.reference.kit import textbook
from rsverify.testing.mutants.reference.lora import kaiming
from rsverify.testing.mutants.reference.slots import Adapted, Kit, Started


def expert_start(W: Tensor, rank: int, alpha: float, kit: Kit) -> Started:
    A = torch.stack([kaiming(rank, W.shape[1], W) for _ in range(2)])
    return {"B": W.new_zeros(2, W.shape[0], rank), "A": A}, {"gate": W.new_tensor([0.7, 0.3])}


def expert_delta(m: Adapted, slot: Any, W: Tensor) -> Tensor:
    return m.kit.gamma(m, slot) * torch.einsum("e,eor,eri->oi", slot.gate, slot.B, slot.A)


def expert_parts(m: Adapted) -> dict[str, Part]:
    """Both experts over all rows, each weighted by its gate."""
    slot = m.slot
    return {f"expert {e}": Part(slot.B[e], slot.A[e], rank=slot.rank, alpha=slot.alpha, weight=float(slot.gate[e])) for e in range(2)}


LIKE_LORA = {"gradient_norm": 0.0, "update:sgd": 0.0, "loss_decrease:sgd": 0.0, "update:adamw": 0.5, "loss_decrease:adamw": 0.5}
"""Powers of the rank of anything that adds products as LoRA does, drawn as LoRA is, under alpha/sqrt(r)."""

EXPERTS = textbook(expert_start, expert_delta, parts=expert_parts, exponents=LIKE_LORA, lacks=("convert", "combine", "redistribute"))
"""Two experts of rank r each, weighted by a router's frozen gates."""
