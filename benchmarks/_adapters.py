"""Other adapters than LoRA in the benchmark of training: how PEFT calls them, and its factors set to our draws where it has them so."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import peft
import torch

from rsverify.training import Configuration, Task
from rsverify.training.adapters.contraction import draw_factors


@dataclass(frozen=True)
class Other:
    """PEFT's config of an adapter at a rank and a gamma, and its name for each factor that is drawn; none where it draws otherwise."""

    config: Callable[[Configuration, list[str]], Any]
    names: dict[str, str]


OTHERS = {
    "dora": Other(
        lambda c, targets: peft.LoraConfig(r=c.rank, lora_alpha=c.gamma * c.rank, use_dora=True, target_modules=targets),
        {"A": "lora_A.default.weight"},
    ),
    "loha": Other(
        lambda c, targets: peft.LoHaConfig(r=c.rank, alpha=c.gamma * c.rank, target_modules=targets),
        {name: f"hada_w{name[1]}_{name[2]}.default" for name in ("W1a", "W1b", "W2a")},
    ),
    # One pair of projections for all layers there, one of its own for each here: the time is compared, the losses are not.
    "vera": Other(lambda c, targets: peft.VeraConfig(r=c.rank, target_modules=targets), {}),
}


def train_with_peft(
    model: Any, task: Task, c: Configuration, *, name: str, targets: list[str], steps: int, our_name: Callable[[str], str]
) -> tuple[float, list[float]]:  # fmt: skip
    """Seconds of the training loop of one configuration under PEFT and torch.optim.AdamW, and its losses."""
    other = OTHERS[name]
    net = peft.get_peft_model(model, other.config(c, targets))
    core = c.adapter if hasattr(c.adapter, "laws") else c.adapter.core
    for layer, module in net.base_model.model.named_modules():
        if other.names and hasattr(module, "base_layer"):
            held, base = dict(module.named_parameters()), module.base_layer
            drawn = draw_factors(
                core, rank=c.rank, d_in=base.in_features, d_out=base.out_features, seed=c.seed, draw=c.draw, layer=our_name(layer),
                gamma=c.gamma,
            )  # fmt: skip
            for ours, theirs in other.names.items():
                held[theirs].data.copy_(torch.from_numpy(drawn[ours]))
    trained = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=c.lr)
    batches, losses = [task.batch(step, c.data) for step in range(steps)], []
    began = time.perf_counter()
    for batch in batches:
        loss = task.losses(net, batch, 1)[0]
        loss.backward()
        losses.append(loss.item())
        optimizer.step()
        optimizer.zero_grad()
    spent = time.perf_counter() - began
    net.unload()
    return spent, losses
