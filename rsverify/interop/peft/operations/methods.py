"""Operations of AdaLoRA, VeRA, MiSS and LoHa."""

from __future__ import annotations

import torch

from rsverify.conformance.outcomes import Wrong
from rsverify.interop.peft.library import library
from rsverify.interop.peft.operations.toys import adapt, chain, make, same, x_for
from rsverify.interop.peft.ownchecks import operation


@operation("adalora")
def check_adalora_rslora() -> None:
    """use_rslora is followed or refused."""
    for rslora, expected in ((False, 5.0), (True, 10.0)):
        try:
            model = adapt(chain(8, 6), "AdaLoraConfig", init_r=4, lora_alpha=20, use_rslora=rslora, total_step=100, init_lora_weights=False)
        except ValueError:
            continue
        layer = model.base_model.model[0]
        product = layer.lora_B["default"] @ (layer.lora_A["default"] * layer.lora_E["default"])
        same(float((layer.get_delta_weight("default") / product).median()), expected, f"scale with use_rslora={rslora}")


@operation("vera")
def check_vera_smaller() -> None:
    """A second adapter of smaller rank computes, or is refused."""
    for r in (4, 2):
        model = adapt(chain(8, 6), "VeraConfig", r=4)
        model.add_adapter("small", make("VeraConfig", r=r))
        model.set_adapter("small")
        try:
            model(x_for())
        except RuntimeError as error:
            raise Wrong(f"a second adapter of rank {r} beside one of rank 4 was accepted, and fails: {error}") from error


@operation("miss")
def check_miss_kinds() -> None:
    """A second adapter of another kind computes, or is refused."""
    for kind in ({}, {"init_weights": "mini", "mini_r": 2}):
        model = adapt(chain(8, 8), "MissConfig", r=4)
        model.add_adapter("second", make("MissConfig", r=4, **kind))
        model.set_adapter("second")
        try:
            model(x_for())
        except RuntimeError as error:
            raise Wrong(f"a second adapter with {kind} was accepted, and fails: {error}") from error


@operation("miss")
def check_miss_mini_merge() -> None:
    """Merging leaves the trained parameter as it is, in float32 and in bfloat16."""
    for dtype in (torch.float32, torch.bfloat16):
        config = make("MissConfig", r=4, mini_r=2, init_weights="mini")
        model = library().get_peft_model(chain(8, 8, dtype=dtype), config, autocast_adapter_dtype=False)
        block = model.base_model.model[0].miss_block
        before = tuple(block["default"].shape)
        model.merge_adapter()
        if tuple(block["default"].shape) != before:
            raise Wrong(f"merging in {dtype} turns the trained parameter {before} into one of {tuple(block['default'].shape)}")


@operation("loha")
def check_loha_rank_dropout() -> None:
    """rank_dropout never makes the output NaN."""
    for rate in (0.1, 0.9):
        torch.manual_seed(0)
        model = adapt(chain(8, 2), "LoHaConfig", r=4, rank_dropout=rate).train()
        if not all(bool(model(x_for()).isfinite().all()) for _ in range(20)):
            raise Wrong(f"rank_dropout={rate} on a layer of 2 outputs gives NaN: the mean of no rows is divided by")
