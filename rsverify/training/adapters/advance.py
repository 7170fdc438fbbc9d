"""One optimizer step on attached adapters, in place, and the size of their gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rsverify.definitions.optimizers import Optimizer
from rsverify.definitions.rates import rate_ratio
from rsverify.training.adapters.attach import Attached
from rsverify.training.optimizers import STEPS, State


def advance(
    attached: Attached, gradients: Sequence[Tensor], *, optimizer: Optimizer, lr: float, states: dict[nn.Parameter, State], t: int
) -> float:
    """One optimizer step on every trainable factor, in place; returns its first-order loss decrease.

    Up-factors take lr times the optimizer's lr_ratio (LoRA+'s B).
    """
    gradient_of = dict(zip(attached.parameters(), gradients, strict=True))
    first_order = 0.0
    with torch.no_grad():
        for module in attached.adapters.values():
            for name, factor in module.trainable.items():
                ratio = rate_ratio(optimizer, module.adapter, name)
                g = gradient_of[factor]
                change = lr * ratio * STEPS[optimizer.name](optimizer, g, factor, states.setdefault(factor, {}), t)
                first_order += float((g * change).sum())
                factor -= change
    return first_order


def factor_norms(attached: Attached, gradients: Sequence[Tensor]) -> dict[str, float]:
    """Frobenius norm of each factor's gradients over all layers, by the factor's name."""
    names = [name for module in attached.adapters.values() for name in module.trainable]
    squares: dict[str, float] = {}
    for name, gradient in zip(names, gradients, strict=True):
        squares[name] = squares.get(name, 0.0) + float(gradient.detach().square().sum())
    return {name: math.sqrt(square) for name, square in squares.items()}
