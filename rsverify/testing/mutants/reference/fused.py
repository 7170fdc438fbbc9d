"""Fused projections: q and v, each with an adapter of its own, and between them a k that has none."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rsverify.conformance import Part
from rsverify.definitions.rules import as_rule
from rsverify.testing.mutants.reference.kit import textbook
from rsverify.testing.mutants.reference.lora import kaiming
from rsverify.testing.mutants.reference.slots import Adapted, Kit, Started


def fused_start(W: Tensor, rank: int, alpha: float, kit: Kit) -> Started:
    half = W.shape[0] // 2
    parts = {"q": (rank, half), "v": (2 * rank, W.shape[0] - half)}
    found: dict[str, Tensor] = {}
    for name, (r, rows) in parts.items():
        found |= {f"B_{name}": W.new_zeros(rows, r), f"A_{name}": kaiming(r, W.shape[1], W)}
    return found, {}


def fused_gammas(m: Adapted, slot: Any) -> tuple[float, float]:
    """Scale of the q and of the v rows: v has twice the rank and 3/2 of the alpha (a rank and an alpha pattern)."""
    rule = as_rule(m.kit.rule)
    return rule.gamma(slot.A_q.shape[0], slot.alpha) * slot.s, rule.gamma(slot.A_v.shape[0], 1.5 * slot.alpha) * slot.s


def fused_delta(m: Adapted, slot: Any, W: Tensor) -> Tensor:
    q, v = fused_gammas(m, slot)
    return torch.cat([q * slot.B_q @ slot.A_q, v * slot.B_v @ slot.A_v])


def fused_parts(m: Adapted) -> dict[str, Part]:
    """q and v as what they are: products of their own rank, alpha and rows."""
    slot, half = m.slot, m.slot.B_q.shape[0]
    q = Part(slot.B_q, slot.A_q, rank=slot.A_q.shape[0], alpha=slot.alpha, rows=(0, half))
    return {"q": q, "v": Part(slot.B_v, slot.A_v, rank=slot.A_v.shape[0], alpha=1.5 * slot.alpha, rows=(half, m.base.out_features))}


FUSED = textbook(fused_start, fused_delta, parts=fused_parts, lacks=("convert", "combine", "redistribute", "scale"))
"""A fused projection, its rows q above v, each half with factors, rank and alpha of its own."""


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


QKV = textbook(qkv_start, qkv_delta, parts=qkv_parts, lacks=("convert", "combine", "redistribute", "scale"))
"""A fused projection with the rows of q, k and v, of which k has no adapter; v has twice the rank and 3/2 of the alpha."""
