"""DoRA: directions and lengths."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from rsverify.testing.mutants.reference.kit import textbook
from rsverify.testing.mutants.reference.lora import lora_delta, lora_start
from rsverify.testing.mutants.reference.slots import Adapted, Kit, Started


def dora_start(W: Tensor, rank: int, alpha: float, kit: Kit) -> Started:
    trained, frozen = lora_start(W, rank, alpha, kit)
    return {**trained, "m": W.norm(dim=1)}, frozen


def dora_delta(m: Adapted, slot: Any, W: Tensor) -> Tensor:
    adapted = W + lora_delta(m, slot, W)
    norm = adapted.norm(dim=1).detach()
    return (slot.m / norm.where(norm > 0, 1.0))[:, None] * adapted - W


DORA = textbook(dora_start, dora_delta, rule="alpha/r", init="dora", lacks=("convert", "combine", "redistribute"))
"""DoRA: the adapted weight, each row brought to a trained length m."""
