"""What CUDA asks for, on the CPU where there is none: coarse base under fine factors, and no step that waits for the host."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from rsverify.training.autograd.backend import Autograd
from rsverify.training.autograd.block_linear import patched
from rsverify.training.autograd.folding import prepare
from rsverify.training.model.data import transformer_task
from rsverify.training.model.transformer import Transformer, TransformerConfig
from rsverify.training.stack.configuration import Configuration
from rsverify.training.stack.layout import order
from rsverify.training.stack.stack import Stack
from rsverify.training.stack.train import train_stacked

sys.path.insert(0, str(Path(__file__).parent))

from naive_training import train_alone
from test_stacked import MIXED, TEXT

pytestmark = pytest.mark.training
DEVICES = [pytest.param("cpu"), pytest.param("cuda", marks=pytest.mark.cuda)]
on_each_device = pytest.mark.parametrize("device", DEVICES)
MATRIX = [Configuration(3, "alpha/r", optimizer=name, lr=1e-3) for name in ("adafactor", "muon-torch", "lion", "signsgd", "momentum")]


def task_on(device, *, dtype=torch.float64):
    torch.manual_seed(3)
    model = Transformer(TransformerConfig(d=12, layers=2, heads=2, kv_heads=1, ffn=20, vocabulary=128)).to(device, dtype)
    return transformer_task(model, TEXT, tokens=9, sequences=2)


@on_each_device
def test_a_device_gives_the_numbers_of_the_reference(device):
    run = train_stacked(task_on(device), MIXED, steps=3)
    for i, c in enumerate(run.configurations):
        alone = train_alone(task_on("cpu"), c, 3)
        np.testing.assert_allclose(run.loss[i], alone.loss, rtol=1e-9)  # float64; another device sums in another order
        np.testing.assert_allclose(run.gradient_norm[i], alone.gradient_norm, rtol=1e-8)


@on_each_device
def test_float32_factors_over_a_bfloat16_base(device):
    """Steps far below bfloat16's resolution of the weight must not be lost: the factors are float32, and never merged into it."""
    task = task_on(device, dtype=torch.bfloat16)
    wanted = [Configuration(r, "alpha/r", alpha=0.5, lr=1e-3) for r in (2, 40)]
    run = train_stacked(task, wanted, steps=3)
    for i in range(2):
        factors = run.factors(i)
        assert all(value.dtype == torch.float32 for mine in factors.values() for value in mine.values())
        weight = task.model.get_submodule(task.targets[0]).weight
        delta = run.delta(i, task.targets[0]).detach()
        assert 0 < float(delta.abs().max()) < 2.0**-9 * float(weight.detach().abs().max())
    fine = train_stacked(task_on(device, dtype=torch.float32), wanted, steps=3)
    # bfloat16 rounds to 2**-9 in each of some forty roundings on the way to the loss: their root mean square
    np.testing.assert_allclose(run.loss, fine.loss, rtol=40**0.5 * 2.0**-8)
    np.testing.assert_allclose(run.gradient_norm[:, 0], fine.gradient_norm[:, 0], rtol=0.1)
    assert (run.output_rms[:, 1:] > 0).all()


class NoHost(TorchDispatchMode):
    """Refuses what makes the host wait for the device, or brings data to or from it."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name()
        if name in ("aten::_local_scalar_dense", "aten::nonzero", "aten::is_nonzero", "aten::masked_select", "aten::equal"):
            raise AssertionError(f"{name} waits for the device")
        return func(*args, **(kwargs or {}))


@on_each_device
def test_no_step_waits_for_the_host(device):
    task = task_on(device, dtype=torch.float32)
    wanted = [*MIXED, *MATRIX]
    wanted = [c for c in wanted if c.targets is None]
    with patched(task.model, task.targets) as switch:
        folding = prepare(task, switch)
        batch = task.batch(0, 0)  # data come from the host: that is not the step's doing
        fixed, ranked = replace(task, batch=lambda step, data: batch), [wanted[i] for i in order(wanted)]
        stack = Stack(fixed, ranked, backend=Autograd(fixed, switch), steps=3, dtype=torch.float32, copies=folding.copies(1 << 30))
        stack.draw()
        for _ in range(2):
            with NoHost():
                stack.advance()
    assert int(stack.done[0]) == 2


def test_the_watch_sees_a_host_read():
    with pytest.raises(AssertionError, match="_local_scalar_dense"), NoHost():
        torch.ones(3).sum().item()
