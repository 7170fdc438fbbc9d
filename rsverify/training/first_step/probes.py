"""What one forward and backward of the bare model tells of every adapter that could stand on it.

With the added weight zero at init, the inputs X and signals V of each linear do not depend on the adapter. Hence at B = 0,
for every rule, optimizer and draw of A:  grad_B = gamma * G A'  with  G = V'X,  and  grad_A = 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from rsverify.training.model.linears import linear_at
from rsverify.training.model.problem import Problem


@dataclass(frozen=True)
class LayerProbe:
    """What a linear saw in one pass: inputs X and signals V = dLoss/dY, in the loss's own convention (its mean over tokens is inside V).

    Shapes: X (n, d_in), V (n, d_out), G = V'X (d_out, d_in).
    """

    name: str
    X: Tensor
    V: Tensor

    @cached_property
    def G(self) -> Tensor:
        return self.V.T @ self.X

    @cached_property
    def XX(self) -> Tensor:
        """Gram matrix X'X (d_in, d_in): |M X'|_F^2 = <M XX, M> without the n x d_out output."""
        return self.X.T @ self.X

    @cached_property
    def VV(self) -> Tensor:
        """Gram matrix V'V (d_out, d_out)."""
        return self.V.T @ self.V

    @property
    def tokens(self) -> int:
        return self.X.shape[0]


@dataclass(frozen=True)
class Capture:
    """The loss of the bare model, and the probe of every target in the order of the targets."""

    loss: float
    layers: tuple[LayerProbe, ...]


def capture(problem: Problem) -> Capture:
    """One forward and backward of the problem's model, read at every target."""
    inputs: dict[str, list[Tensor]] = {name: [] for name in problem.targets}
    nothings: dict[str, list[Tensor]] = {name: [] for name in problem.targets}

    def reader(name: str) -> Callable[..., Tensor]:
        def hook(linear: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
            # A zero added to the output: its gradient is the signal, with no weight gradient ever formed.
            nothing = torch.zeros_like(output, requires_grad=True)
            inputs[name].append(args[0].detach().flatten(0, -2))
            nothings[name].append(nothing)
            return output + nothing

        return hook

    handles = [linear_at(problem.model, name).register_forward_hook(reader(name)) for name in problem.targets]
    try:
        with torch.enable_grad():
            loss = problem.loss()
            leaves = [nothing for name in problem.targets for nothing in nothings[name]]
            signals = iter(torch.autograd.grad(loss, leaves))
    finally:
        for handle in handles:
            handle.remove()
    layers = []
    for name in problem.targets:
        V = torch.cat([next(signals).flatten(0, -2) for _ in nothings[name]])
        layers.append(LayerProbe(name, torch.cat(inputs[name]), V))
    return Capture(loss.item(), tuple(layers))
