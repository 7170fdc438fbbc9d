"""The usual pieces of an implementation, each a plain function of the adapted layer: build, compute, scale, add, switch."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from rsverify.definitions.rules import as_rule
from rsverify.testing.mutants.reference.slots import Adapted, Kit, Slot


def ruled(m: Adapted, slot: Any, rule: str | None = None) -> float:
    return as_rule(rule or m.kit.rule).gamma(slot.rank, slot.alpha) * slot.s


def new_slot(kit: Kit, W: Tensor, rank: int, alpha: float) -> Slot:
    trained, frozen = kit.start(W.detach(), rank, alpha, kit)
    return Slot(trained, frozen, rank, alpha)


def built(kit: Kit, rank: int, base: nn.Linear, alpha: float) -> Adapted:
    m = Adapted(base, kit)
    m.slots["default"] = new_slot(kit, base.weight, rank, alpha)
    return m


def computed(m: Adapted, x: Tensor) -> Tensor:
    if m.kept is not None:
        return m.base(x)
    branch = F.dropout(x, m.kit.dropout, training=m.training)
    delta, offset = m.kit.delta(m, m.slot, m.base.weight), m.kit.offset(m, m.slot)
    return m.base(x) + F.linear(branch, delta, offset)


def rescaled(m: Adapted, s: float) -> None:
    m.slot.s = float(s)


def added(m: Adapted, name: str, rank: int, alpha: float) -> None:
    m.slots[name] = new_slot(m.kit, m.pristine, rank, alpha)
    m.kit.set_adapter(m, m.active)


def activated(m: Adapted, name: str) -> None:
    m.active = name
    for other, slot in m.slots.items():
        assert isinstance(slot, Slot)
        for factor in slot.trained:
            slot.get_parameter(factor).requires_grad_(other == name)
