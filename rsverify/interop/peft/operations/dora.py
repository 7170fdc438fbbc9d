"""DoRA's modes and its cache."""

from __future__ import annotations

import torch

from rsverify.interop.peft.operations.toys import adapt, chain, equal, make, stir, x_for
from rsverify.interop.peft.ownchecks import operation


@operation("lora")
def check_dora_modes() -> None:
    """With DoRA, training mode without dropout to speak of is evaluation mode, with one and with two active adapters."""
    for names in (["default"], ["default", "b"]):
        config = {"r": 2, "use_dora": True, "init_lora_weights": False, "lora_dropout": 1e-12}
        model = adapt(chain(8, 6), **config)
        model.add_adapter("b", make(**config))
        model.base_model.set_adapter(names)
        stir(model, "magnitude")
        expected = model.train()(x_for())
        equal(model.eval()(x_for()), expected, f"DoRA in evaluation mode with {len(names)} active")


@operation("lora")
def check_dora_cache() -> None:
    """DoraCaching computes what DoRA does without it, after a change of scale too."""
    from peft.helpers import DoraCaching

    model = adapt(chain(8, 6), r=2, use_dora=True, init_lora_weights=False).eval()
    with torch.no_grad():
        plain = model(x_for())
        with DoraCaching():
            equal(model(x_for()), plain, "DoRA with a cache")
            model.base_model.model[0].set_scale("default", 3.0)
            cached = model(x_for())
        model.train().eval()  # training mode empties the cache
        equal(cached, model(x_for()), "DoRA with a cache, after set_scale(3)")
