"""Hot swaps of LoRA's adapters: scale, config, compiled models, neighbours."""

from __future__ import annotations

from typing import Any

from rsverify.interop.peft.library import library
from rsverify.interop.peft.operations.toys import adapt, chain, equal, folder, hotswap, make, same
from rsverify.interop.peft.ownchecks import operation


@operation("lora")
def check_hotswap_alpha_pattern() -> None:
    """An adapter swapped for itself keeps its scale, with and without patterns."""
    for patterns in ({}, {"alpha_pattern": {"0": 4}}, {"rank_pattern": {"0": 2}}):
        settings: dict[str, Any] = {"r": 8, "lora_alpha": 16, **patterns}
        model = adapt(chain(8, 6), **settings)
        before = model.base_model.model[0].scaling["default"]
        with folder() as path:
            model.save_pretrained(path)
            hotswap(model, path)
        same(model.base_model.model[0].scaling["default"], before, f"{patterns or 'no patterns'}: scale of an adapter swapped for itself")


@operation("lora")
def check_hotswap_saved() -> None:
    """After a hot swap the new adapter's config is saved with its weights."""
    for alpha in (20, 4):
        model = adapt(chain(8, 6), r=4, lora_alpha=20)
        with folder() as path:
            adapt(chain(8, 6), r=4, lora_alpha=alpha).save_pretrained(path)
            hotswap(model, path)
            model.save_pretrained(path)
            same(library().PeftConfig.from_pretrained(path).lora_alpha, alpha, "alpha saved after a hot swap")


@operation("lora")
def check_hotswap_prepared() -> None:
    """prepare_model_for_compiled_hotswap leaves a config that gives the model's scale."""
    from peft.utils.hotswap import prepare_model_for_compiled_hotswap

    for target in (4, 16):
        model = adapt(chain(8, 6), r=4, lora_alpha=20)
        config = model.peft_config["default"]
        prepare_model_for_compiled_hotswap(model, target_rank=target, config=config)
        same(config.lora_alpha / config.r, 5.0, f"scale of the config, prepared for rank {target}")


@operation("lora")
def check_hotswap_neighbour() -> None:
    """Hot-swapping one adapter leaves the others alone, whatever they are called."""
    for other in ("second", "default_2"):
        model = adapt(chain(8, 6), r=2)
        model.add_adapter(other, make(r=2, init_lora_weights=False))
        B = model.base_model.model[0].lora_B[other].weight
        before = B.detach().clone()
        with folder() as path:
            model.save_pretrained(path, selected_adapters=["default"])
            hotswap(model, path)
        equal(B, before, f"adapter {other!r} after 'default' was swapped")
