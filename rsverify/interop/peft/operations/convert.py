"""Conversions to LoRA and the reduction of intruder dimensions: the function is kept, or the conversion refused."""

from __future__ import annotations

from torch import nn

from rsverify.conformance.outcomes import Wrong
from rsverify.interop.peft.library import library
from rsverify.interop.peft.operations.toys import adapt, chain, equal, same, stir
from rsverify.interop.peft.ownchecks import operation


@operation("lora")
def check_convert_dora() -> None:
    """convert_to_lora keeps the function of plain LoRA and of DoRA, or refuses."""
    for dora in (False, True):
        model = adapt(chain(6, 6), r=2, use_dora=dora, init_lora_weights=False)
        stir(model, "magnitude")
        W = model.base_model.model[0].weight.detach().clone()
        config, tensors = library().convert_to_lora(model, 6)
        model.merge_adapter()
        A, B = (tensors[f"base_model.model.0.lora_{side}.weight"] for side in "AB")
        equal(config.lora_alpha / config.r * B @ A, model.base_model.model[0].weight - W, f"converted, use_dora={dora}")


@operation("lora")
def check_convert_bias() -> None:
    """convert_to_lora keeps a trained bias, or refuses."""
    model = adapt(chain(6, 6), r=2, lora_bias=True)
    model.base_model.model[0].lora_B["default"].bias.data.fill_(1.0)
    try:
        _, tensors = library().convert_to_lora(model, 6)
    except ValueError:
        return
    if not any("bias" in key for key in tensors):
        raise Wrong("convert_to_lora drops the bias that lora_bias trained")


@operation("lora")
def check_convert_containers() -> None:
    """convert_to_lora keeps every tensor of modules_to_save, containers' too."""
    for head, count in ((nn.Linear(6, 4), 2), (nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2)), 4)):
        base = nn.ModuleDict({"lin": nn.Linear(6, 6), "head": head})
        model = adapt(base, "LoHaConfig", r=2, target_modules=["lin"], modules_to_save=["head"])
        _, tensors = library().convert_to_lora(model, 6)
        same(sum("head" in key for key in tensors), count, "tensors of modules_to_save after convert_to_lora")


@operation("lora")
def check_intruders() -> None:
    """reduce_intruder_dimension with nothing to subtract keeps the adapter, on linear layers and embeddings."""
    from peft.tuners.lora.intruders import reduce_intruder_dimension

    for layer in (nn.Linear(8, 8), nn.Embedding(8, 8)):
        model = adapt(nn.Sequential(layer), r=2, init_lora_weights=False)
        reduce_intruder_dimension(model, mitigation_lambda=1.0, threshold_epsilon=2.0)
        tuned = model.base_model.model[0]
        what = f"{type(layer).__name__}, nothing subtracted"
        equal(tuned.get_delta_weight("intruder_reduced"), tuned.get_delta_weight("default"), what)
