"""A stack equals PEFT's LoRA with the same weights, data and init at every step, in float64."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from rsverify.training.adapters.contraction import draw_factors
from rsverify.training.stack.configuration import Configuration
from rsverify.training.stack.train import train_stacked

sys.path.insert(0, str(Path(__file__).parent))

from naive_training import rounding_bound, train_alone
from test_stacked import small_task

peft = pytest.importorskip("peft", reason="peft is not installed: pip install 'rsverify[peft]'")
pytestmark = pytest.mark.training


def train_with_peft(task, c, steps, *, alpha):
    """Losses and gradient norms of PEFT's own LoRA layers under torch.optim.AdamW."""
    settings = peft.LoraConfig(r=c.rank, lora_alpha=alpha, use_rslora="sqrt" in c.rule, target_modules=list(task.targets))
    net = peft.get_peft_model(task.model, settings)
    for name in task.targets:
        layer = net.base_model.model.get_submodule(name)
        A = draw_factors(c.adapter, rank=c.rank, d_in=layer.in_features, d_out=layer.out_features, seed=c.seed, draw=c.draw, layer=name)[
            "A"
        ]
        layer.lora_A["default"].weight.data = torch.from_numpy(A)
        layer.lora_B["default"].weight.data = layer.lora_B["default"].weight.data.double()
    trained = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=c.lr)
    losses, norms = [], []
    try:
        for step in range(steps):
            loss = task.losses(net, task.batch(step, c.data), 1)[0]
            optimizer.zero_grad()
            loss.backward()
            losses.append(loss.item())
            norms.append(float(torch.nn.utils.get_total_norm([p.grad for p in trained])))
            optimizer.step()
    finally:
        net.unload()
    return np.array(losses), np.array(norms)


@pytest.mark.parametrize("rule", ["alpha/r", "alpha/sqrt(r)"])
def test_equals_peft_at_every_step(rule):
    steps = 4
    configurations = [Configuration(rank, rule, alpha=7, lr=1e-2, seed=1) for rank in (3, 20)]
    run = train_stacked(small_task(), configurations, steps=steps)
    for i, c in enumerate(configurations):
        task = small_task()
        losses, norms = train_with_peft(task, c, steps, alpha=7)
        fresh = small_task()
        bound = rounding_bound(fresh, c, steps, train_alone(fresh, c, steps))
        assert (np.abs(run.loss[i] - losses) <= bound.loss).all()
        assert (np.abs(run.gradient_norm[i] - norms) <= bound.gradient_norm).all()
        wrong, _ = train_with_peft(small_task(), c, steps, alpha=7.000001)
        assert (np.abs(run.loss[i] - wrong) > bound.loss)[1:].all()
