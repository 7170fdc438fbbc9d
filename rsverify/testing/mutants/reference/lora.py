"""LoRA; with dropout, with a bias of its own, with A left at its init (LoRA-FA)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from rsverify.testing.mutants.reference.kit import textbook
from rsverify.testing.mutants.reference.slots import Adapted, Kit, Started


def kaiming(rows: int, columns: int, like: Tensor) -> Tensor:
    """Uniform on +-1/sqrt(columns)."""
    return (2 * torch.rand(rows, columns, dtype=torch.float64) - 1).div(math.sqrt(columns)).to(like)


def lora_start(W: Tensor, rank: int, alpha: float, kit: Kit) -> Started:
    B = W.new_zeros(W.shape[0], rank)
    A = kaiming(rank, W.shape[1], W)
    return {"B": B, "A": A}, {}


def lora_delta(m: Adapted, slot: Any, W: Tensor) -> Tensor:
    return m.kit.gamma(m, slot) * slot.B @ slot.A


LORA = textbook(lora_start, lora_delta, init="lora")
"""LoRA under rsLoRA's rule, alpha/sqrt(r): every capability but conversion."""

DROPPED = LORA.but(dropout=0.5)
"""The same with dropout on its input."""


def bias_start(W: Tensor, rank: int, alpha: float, kit: Kit) -> Started:
    trained, frozen = lora_start(W, rank, alpha, kit)
    return {**trained, "c": W.new_zeros(W.shape[0])}, frozen


BIASED = LORA.but(
    start=bias_start, init="identity", offset=lambda m, slot: m.kit.gamma(m, slot) * slot.c,
    lacks=("convert", "combine", "redistribute"),
)  # fmt: skip
"""LoRA whose up-projection has a bias c of its own: gamma (B A x + c)."""


def frozen_start(W: Tensor, rank: int, alpha: float, kit: Kit) -> Started:
    trained, _ = lora_start(W, rank, alpha, kit)
    return {"B": trained["B"]}, {"A": trained["A"]}


FROZEN = textbook(frozen_start, lora_delta, init="lora-fa", rule="alpha/r", lacks=("convert", "combine", "redistribute"))
"""LoRA-FA: A stays at its init."""
