"""The training witness's updates against torch.optim, in float64, and against the scalar references."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rsverify.definitions import as_optimizer, optimizers
from rsverify.definitions.optimizers import scalar_reference
from rsverify.statistics.streams import stream
from rsverify.training.optimizers import DEGREE, STEPS, first_step, silence

LR = 0.01
TORCH = {
    "sgd": lambda p: torch.optim.SGD(p, lr=LR),
    "sgd:weight_decay=0.1": lambda p: torch.optim.SGD(p, lr=LR, weight_decay=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=LR, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, lr=LR),
    "adam:weight_decay=0.1,eps=0.01": lambda p: torch.optim.Adam(p, lr=LR, weight_decay=0.1, eps=0.01),
    "adamw": lambda p: torch.optim.AdamW(p, lr=LR),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=LR),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=LR),
}


def path(optimizer, gradients, start):
    w, state, found = start.clone(), {}, []
    for t, g in enumerate(gradients, start=1):
        w = w - LR * STEPS[optimizer.name](optimizer, g, w, state, t)
        found.append(w)
    return found


@pytest.mark.parametrize("text", TORCH)
def test_equals_torch(text):
    rng = stream(5, text)
    gradients = [torch.from_numpy(rng.standard_normal((4, 3))) for _ in range(6)]
    start = torch.from_numpy(rng.standard_normal((4, 3)))
    theirs = torch.nn.Parameter(start.clone())
    library = TORCH[text]([theirs])
    for ours, g in zip(path(as_optimizer(text), gradients, start), gradients, strict=True):
        theirs.grad = g.clone()
        library.step()
        torch.testing.assert_close(ours, theirs.detach(), rtol=1e-13, atol=1e-14)  # a dozen operations of 1e-16 per step


@pytest.mark.parametrize("name", STEPS)
def test_equals_the_scalar_reference(name):
    optimizer = as_optimizer(name)
    rng = stream(6, name)
    gradients = rng.standard_normal(5).tolist()
    ours = path(optimizer, [torch.tensor([g], dtype=torch.float64) for g in gradients], torch.tensor([0.7], dtype=torch.float64))
    expected = scalar_reference(optimizer, gradients, lr=LR, start=0.7)
    np.testing.assert_allclose([float(w) for w in ours], expected, rtol=1e-13)


@pytest.mark.parametrize("name", DEGREE)
def test_first_steps_are_homogeneous_where_said(name):
    g = torch.from_numpy(stream(7, name).standard_normal((5, 4)))
    torch.testing.assert_close(first_step(as_optimizer(name), 3.0 * g), 3.0 ** DEGREE[name] * first_step(as_optimizer(name), g))


def test_the_others_are_silent_with_a_reason():
    for name, optimizer in optimizers().items():
        assert (silence(optimizer) is None) == (name in STEPS)
    assert "no update for muon" in (silence(as_optimizer("muon")) or "")
    assert "clip" in (silence(as_optimizer("sgd:clip=1")) or "")
