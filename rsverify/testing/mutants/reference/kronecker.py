"""Kronecker products: of two sizes, and LoKr with its full matrix as PEFT and as LyCORIS have it."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from rsverify.testing.mutants.reference.kit import textbook
from rsverify.testing.mutants.reference.lora import kaiming
from rsverify.testing.mutants.reference.pieces import ruled
from rsverify.testing.mutants.reference.slots import Adapted, Kit, Started


def kronecker_start(W: Tensor, rank: int, alpha: float, kit: Kit) -> Started:
    d_out, d_in = W.shape
    return {"C": W.new_zeros(2, 2), "P": kaiming(d_out // 2, rank, W), "Q": kaiming(rank, d_in // 2, W)}, {}


def kronecker_delta(m: Adapted, slot: Any, W: Tensor) -> Tensor:
    return m.kit.gamma(m, slot) * torch.kron(slot.C, slot.P @ slot.Q)


KRONECKER = textbook(kronecker_start, kronecker_delta, rule="alpha/r", lacks=("convert", "combine", "redistribute"))
"""LoKr: a 2 x 2 factor C, zero at init, times a low-rank product."""


def near_square(width: int) -> tuple[int, int]:
    """The two whole numbers nearest to each other whose product is the width, the smaller first."""
    small = max(n for n in range(1, math.isqrt(width) + 1) if width % n == 0)
    return small, width // small


def lokr_start(W: Tensor, rank: int, alpha: float, kit: Kit) -> Started:
    (a, p), (b, q) = near_square(W.shape[0]), near_square(W.shape[1])
    second = {"w2": kaiming(p, q, W)} if 2 * rank >= max(p, q) else {"W2a": kaiming(p, rank, W), "W2b": kaiming(rank, q, W)}
    return {"w1": W.new_zeros(a, b), **second}, {}


def lokr_delta(m: Adapted, slot: Any, W: Tensor) -> Tensor:
    second = slot.w2 if hasattr(slot, "w2") else slot.W2a @ slot.W2b
    return m.kit.gamma(m, slot) * torch.kron(slot.w1, second)


LOKR = textbook(lokr_start, lokr_delta, rule="alpha/r", init="lokr", lacks=("convert", "combine", "redistribute"))
"""LoKr as PEFT has it: from half of the second factor's longer side on that is one matrix, whose scale still is alpha/r."""


def free_start(W: Tensor, rank: int, alpha: float, kit: Kit) -> Started:
    (a, p), (b, q) = near_square(W.shape[0]), near_square(W.shape[1])
    w1 = {"w1": kaiming(a, b, W)}
    if 2 * rank >= max(p, q):
        return {**w1, "w2": W.new_zeros(p, q)}, {}
    return {**w1, "W2a": kaiming(p, rank, W), "W2b": W.new_zeros(rank, q)}, {}


def free_gamma(m: Adapted, slot: Any) -> float:
    if hasattr(slot, "w2"):
        return slot.s
    return ruled(m, slot)


LOKR_FREE = LOKR.but(start=free_start, gamma=free_gamma, init="lokr-lycoris")
"""LoKr as LyCORIS has it: the full matrix has scale 1."""
