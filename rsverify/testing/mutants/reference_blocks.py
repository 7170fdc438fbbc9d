"""Sound adapters whose weight is not one product: a fused projection with a part left alone, and LoKr with its full matrix."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from rsverify.conformance import Part
from rsverify.testing.mutants.reference import (
    BIASED,
    DORA,
    DROPPED,
    EXPERTS,
    FROZEN,
    FUSED,
    KRONECKER,
    LORA,
    RESIDUAL,
    Adapted,
    Kit,
    fused_gammas,
    kaiming,
    ruled,
)  # fmt: skip

Started = tuple[dict[str, Tensor], dict[str, Tensor]]


def blocks_of(rows: int) -> tuple[int, int]:
    """Where k begins and where v begins."""
    return rows // 3, 2 * (rows // 3)


def qkv_start(W: Tensor, rank: int, alpha: float, kit: Kit) -> Started:
    k, v = blocks_of(W.shape[0])
    q = {"B_q": W.new_zeros(k, rank), "A_q": kaiming(rank, W.shape[1], W)}
    return {**q, "B_v": W.new_zeros(W.shape[0] - v, 2 * rank), "A_v": kaiming(2 * rank, W.shape[1], W)}, {}


def qkv_delta(m: Adapted, slot: Any, W: Tensor) -> Tensor:
    q_scale, v_scale = fused_gammas(m, slot)
    k, v = blocks_of(W.shape[0])
    q_part = q_scale * slot.B_q @ slot.A_q
    v_part = v_scale * slot.B_v @ slot.A_v
    return torch.cat([q_part, W.new_zeros(v - k, W.shape[1]), v_part])


def qkv_parts(m: Adapted) -> dict[str, Part]:
    slot = m.slot
    k, v = blocks_of(m.base.out_features)
    q_part = Part(slot.B_q, slot.A_q, rank=slot.A_q.shape[0], alpha=slot.alpha, rows=(0, k))
    v_part = Part(slot.B_v, slot.A_v, rank=slot.A_v.shape[0], alpha=1.5 * slot.alpha, rows=(v, m.base.out_features))
    return {"q": q_part, "v": v_part}


QKV = Kit(qkv_start, qkv_delta, parts=qkv_parts, lacks=("convert", "combine", "redistribute", "scale"))
"""A fused projection with the rows of q, k and v, of which k has no adapter; v has twice the rank and 3/2 of the alpha."""


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


LOKR = Kit(lokr_start, lokr_delta, rule="alpha/r", init="lokr", lacks=("convert", "combine", "redistribute"))
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

SOUND = {
    "lora": LORA, "lora-dropout": DROPPED, "lora-bias": BIASED, "dora": DORA, "lora-fa": FROZEN, "pissa": RESIDUAL,
    "fused": FUSED, "experts": EXPERTS, "kronecker": KRONECKER, "qkv": QKV, "lokr": LOKR, "lokr-lycoris": LOKR_FREE,
}  # fmt: skip
"""The implementations that mutants are made from, by name."""
