"""Combinations of LoRA's adapters."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from rsverify.conformance.outcomes import Wrong
from rsverify.interop.peft.operations.toys import adapt, chain, equal, make, same, x_for
from rsverify.interop.peft.ownchecks import operation


@operation("lora")
def check_combine_patterns() -> None:
    """A combination's tensors have the ranks that its config says."""
    for patterns in ({}, {"rank_pattern": {"0": 2}}):
        settings: dict[str, Any] = {"r": 8, "target_modules": ["0", "1"], **patterns}
        model = adapt(chain(8, 6, 4), **settings)
        model.add_weighted_adapter(["default"], [1.0], "sum", combination_type="linear")
        new = model.peft_config["sum"]
        rows = model.base_model.model[0].lora_A["sum"].weight.shape[0]
        same(rows, (new.rank_pattern or {}).get("0", new.r), "rank of a combination under rank_pattern")


@operation("lora")
def check_combine_conv1d() -> None:
    """The svd combination of an adapter and nothing of another is that adapter, on linear layers and on Conv1d."""
    for layer, x in ((nn.Linear(8, 4), x_for()), (nn.Conv1d(3, 4, 3), torch.linspace(-1.0, 1.0, 24).reshape(1, 3, 8))):
        model = adapt(nn.Sequential(layer), r=2, init_lora_weights=False)
        model.add_adapter("b", make(r=2, init_lora_weights=False))
        expected = model(x).detach()
        try:
            model.add_weighted_adapter(["default", "b"], [1.0, 0.0], "sum", combination_type="svd")
            model.set_adapter("sum")
            found = model(x)
        except (RuntimeError, IndexError) as error:
            raise Wrong(f"the svd combination on {type(layer).__name__} cannot be made or called: {error}") from error
        equal(found, expected, f"the svd combination of one adapter on {type(layer).__name__}")
