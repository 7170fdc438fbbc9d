"""LoRA's inits that touch the base weight or the dtype: PiSSA and the orthogonal one."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

from rsverify.conformance.outcomes import Wrong
from rsverify.interop.peft.library import library
from rsverify.interop.peft.operations.toys import adapt, chain, equal, folder, make, same, x_for
from rsverify.interop.peft.ownchecks import operation


@operation("lora")
def check_pissa_disabled() -> None:
    """disable_adapter() gives the pretrained function back."""
    for init in (True, "pissa"):
        base = chain(8, 6)
        expected = base(x_for()).detach()
        model = adapt(base, r=2, init_lora_weights=init)
        with model.disable_adapter():
            equal(model(x_for()), expected, f"disabled, init_lora_weights={init}")


@operation("lora")
def check_pissa_converted() -> None:
    """Converting PiSSA to LoRA keeps what else is trained: modules_to_save."""
    model = adapt(chain(8, 6, 4), r=2, init_lora_weights="pissa", modules_to_save=["1"])
    config = model.peft_config["default"]
    with folder() as first, folder() as last:
        config.init_lora_weights = True
        model.save_pretrained(first)
        config.init_lora_weights = "pissa"
        model.save_pretrained(last, path_initial_model_for_weight_conversion=first)
        keys = list(load_file(Path(last) / "adapter_model.safetensors"))
    if not any("lora_A" in key for key in keys) or not any(".1." in key for key in keys):
        raise Wrong(f"the converted adapter holds {', '.join(keys)}; modules_to_save are lost")


@operation("lora")
def check_pissa_rank() -> None:
    """The scale of PiSSA is that of the rank it has, above the layer's width too."""
    for r in (2, 5):
        layer = adapt(chain(8, 3), r=r, lora_alpha=20, init_lora_weights="pissa").base_model.model[0]
        rows = layer.lora_A["default"].weight.shape[0]
        same(layer.scaling["default"], 20 / rows, f"scale of {rows} rows, r={r}")


@operation("lora")
def check_pissa_float64() -> None:
    """PiSSA can be built on a float64 model, as the plain init can."""
    for init in (True, "pissa"):
        try:
            adapt(chain(8, 6, dtype=torch.float64), r=2, init_lora_weights=init)
        except TypeError as error:
            raise Wrong(f"init_lora_weights={init} on a float64 model: {error}") from error


@operation("lora")
def check_orthogonal_bfloat16() -> None:
    """The orthogonal init adds nothing beyond one rounding of the weight, in bfloat16 too."""
    for dtype in (torch.float32, torch.bfloat16):
        config = make(r=16, lora_alpha=64, init_lora_weights="orthogonal")
        model = library().get_peft_model(chain(64, 64, dtype=dtype), config, autocast_adapter_dtype=False)
        layer = model.base_model.model[0]
        A, B = layer.lora_A["default"].weight.double(), layer.lora_B["default"].weight.double()
        share = float((4 * B @ A).norm() / layer.weight.double().norm())
        # Factors of 64 x 16 entries whose rounding does not cancel in B A: what float32 leaves is below a thousandth in any case.
        if share > 1e-3:
            raise Wrong(f"at init it adds {share:.2g} of the base weight in {dtype}: the factors are rounded, and B A is not zero")
