"""Operations that set, redistribute or undo a scale of LoRA."""

from __future__ import annotations

import torch

from rsverify.interop.peft.library import library
from rsverify.interop.peft.operations.toys import adapt, chain, same
from rsverify.interop.peft.ownchecks import operation


@operation("lora")
def check_eva_scale() -> None:
    """EVA's redistribution of ranks keeps the scale, as it says, under both rules."""
    for rslora in (False, True):
        for new in (2, 6):
            model = adapt(chain(8, 6), r=4, lora_alpha=20, use_rslora=rslora, init_lora_weights="eva")
            before = model.base_model.model[0].scaling["default"]
            library().initialize_lora_eva_weights(model, eva_state_dict={"base_model.model.0": torch.eye(new, 8)})
            same(model.base_model.model[0].scaling["default"], before, f"use_rslora={rslora}: scale after rank 4 became {new}")


@operation("lora")
def check_scale_layer_zero() -> None:
    """scale_layer and unscale_layer undo each other, at zero too."""
    for factor in (2.0, 0):
        layer = adapt(chain(8, 6), r=2).base_model.model[0]
        before = layer.scaling["default"]
        layer.scale_layer(factor)
        layer.unscale_layer(factor)
        same(layer.scaling["default"], before, f"after scale_layer({factor}) and unscale_layer({factor})")
