"""PiSSA: a start from the base's own singular triples, and its conversion to a plain LoRA."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rsverify.definitions.rules import as_rule
from rsverify.testing.mutants.reference.files import loaded
from rsverify.testing.mutants.reference.kit import textbook
from rsverify.testing.mutants.reference.lora import lora_delta
from rsverify.testing.mutants.reference.pieces import built
from rsverify.testing.mutants.reference.slots import Adapted, Kit, Slot, Started


def residual_start(W: Tensor, rank: int, alpha: float, kit: Kit) -> Started:
    gamma = as_rule(kit.rule).gamma(rank, alpha)
    U, S, Vh = torch.linalg.svd(W, full_matrices=False)
    root = (S[:rank] / gamma).sqrt()
    A, B = root[:, None] * Vh[:rank], U[:, :rank] * root
    return {"B": B, "A": A}, {"A0": A, "B0": B}


def residual_build(kit: Kit, rank: int, base: nn.Linear, alpha: float) -> Adapted:
    m = built(kit, rank, base, alpha)
    with torch.no_grad():
        base.weight.sub_(first_product(m, m.slot))
    return m


def first_product(m: Adapted, slot: Any) -> Tensor:
    """What the base weight lost at init; the user's scale has no part in it."""
    return as_rule(m.kit.rule).gamma(slot.rank, slot.alpha) * slot.B0 @ slot.A0


def residual_load(kit: Kit, data: Mapping[str, Any], base: nn.Linear) -> nn.Module:
    m = loaded(kit, data, base)
    if "A0" in data["tensors"]:
        with torch.no_grad():
            base.weight.sub_(first_product(m, m.slot).to(base.weight))
    return m


@torch.no_grad()
def residual_convert(m: Adapted) -> dict[str, Any]:
    """A plain LoRA of twice the rank on the pretrained weight: what was learned is the product now minus the product at init."""
    slot: Any = m.slot
    plain = Slot({"B": slot.B, "A": torch.cat([slot.A, slot.A0])}, {}, 2 * slot.rank, slot.alpha)
    rule = as_rule(m.kit.rule)
    old, new = rule.gamma(slot.rank, slot.alpha), rule.gamma(plain.rank, plain.alpha)
    B = torch.cat([slot.B * old * slot.s, -slot.B0 * old], dim=1) / new
    return {
        "rank": plain.rank, "alpha": plain.alpha, "rule": m.kit.rule, "s": 1.0, "trained": ["B", "A"],
        "tensors": {"B": B, "A": plain.get_parameter("A").detach().clone()},
    }  # fmt: skip


RESIDUAL = textbook(
    residual_start, lora_delta, init="pissa", build=residual_build, load=residual_load, convert=residual_convert,
    lacks=("add_adapter", "set_adapter", "combine", "redistribute", "delta"),
)  # fmt: skip
"""PiSSA: starts from the weight's largest singular triples, which the base weight loses."""
