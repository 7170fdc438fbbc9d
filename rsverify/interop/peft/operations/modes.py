"""Training and evaluation mode, and the optimizer's step, of LoRA."""

from __future__ import annotations

import torch
from torch import nn

from rsverify.conformance.outcomes import Wrong
from rsverify.interop.peft.operations.toys import adapt, chain, x_for
from rsverify.interop.peft.ownchecks import operation


@operation("lora")
def check_attention_dropout() -> None:
    """lora_dropout acts in training mode on every layer that takes it."""
    for layer, x in ((nn.Linear(8, 8), x_for()), (nn.Embedding(10, 8), torch.arange(10))):
        model = adapt(nn.Sequential(layer), lora_dropout=0.5, init_lora_weights=False).train()
        if torch.equal(model(x), model(x)):
            raise Wrong(f"lora_dropout=0.5 does nothing on {type(layer).__name__}")


@operation("lora")
def check_lorafa_bias() -> None:
    """The LoRA-FA optimizer steps, with trained biases too."""
    from peft.optimizers import create_lorafa_optimizer

    for bias in (False, True):
        model = adapt(chain(8, 6, 4), r=2, lora_bias=bias, target_modules=["0", "1"])
        model(x_for()).sum().backward()
        try:
            create_lorafa_optimizer(model, r=2, lora_alpha=8, lr=1e-3).step()
        except (RuntimeError, TypeError) as error:
            raise Wrong(f"lora_bias={bias}: the LoRA-FA optimizer's step raises: {error}") from error


@operation("lora")
def check_eval_kept() -> None:
    """An adapter put on a model in evaluation mode is in evaluation mode."""
    model = adapt(chain(8, 6).eval(), lora_dropout=0.5)
    training = [name for name, module in model.base_model.model.named_modules() if module.training]
    if training:
        raise Wrong(f"on a model in evaluation mode {len(training)} of its modules are in training mode: dropout acts")
