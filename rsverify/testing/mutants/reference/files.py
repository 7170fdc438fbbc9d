"""What is saved of the active slot, and a layer built of it again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from rsverify.testing.mutants.reference.slots import Adapted, Kit, Slot


def saved(m: Adapted) -> dict[str, Any]:
    slot = m.slot
    return {
        "rank": slot.rank, "alpha": slot.alpha, "rule": m.kit.rule, "s": slot.s, "trained": list(slot.trained),
        "tensors": {name: value.detach().clone() for name, value in slot.factors().items()},
    }  # fmt: skip


def loaded(kit: Kit, data: Mapping[str, Any], base: nn.Linear) -> Adapted:
    m = Adapted(base, kit if kit.rule == data["rule"] else kit.but(rule=data["rule"]))
    tensors, trained = data["tensors"], set(data["trained"])
    slot = Slot(
        {name: value for name, value in tensors.items() if name in trained},
        {name: value for name, value in tensors.items() if name not in trained}, data["rank"], data["alpha"],
    )  # fmt: skip
    slot.s = data["s"]
    m.slots["default"] = slot
    return m
