"""The first step by autograd on attached adapters: slow, direct, and sharing nothing with the closed form but the draws of A.

For any declared adapter of any init. Outputs are materialised, gradients come from backward passes, the step is really taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.optimizers import Optimizer
from rsverify.training.adapters.advance import advance, factor_norms
from rsverify.training.adapters.attach import Attached, attach, build_adapters
from rsverify.training.model.linears import linear_at
from rsverify.training.model.problem import Problem


def first_step_by_autograd(
    problem: Problem, adapter: Adapter, *, rank: int, gamma: float, optimizer: Optimizer, lr: float = 1.0, seed: int = 0, draw: int = 0
) -> dict[str, float]:
    """The quantities of one draw at one rank, the step taken at `lr`.

    In words: gradient_norm and gradient:<factor> at init; loss_decrease = -<gradient, step>; update_rms over tokens, entries
    and layers; update_projection = sum over layers of sum_n -v_n . change_n / |V|; input_gradient_rms = rms of what the
    adapters pass back, v times their added weight. The change is that of the adapter on the bare model's inputs.
    """
    modules = build_adapters(problem.model, adapter, rank=rank, gamma=gamma, targets=problem.targets, seed=seed, draw=draw)
    with attach(problem.model, modules) as attached:
        gradients, inputs, signals = _backward(attached, problem)
        found = {f"gradient:{name}": norm for name, norm in factor_norms(attached, gradients).items()}
        found["gradient_norm"] = math.sqrt(sum(norm**2 for norm in found.values()))
        before = {name: module(inputs[name]).detach() for name, module in attached.adapters.items()}
        found["loss_decrease"] = advance(attached, gradients, optimizer=optimizer, lr=lr, states={}, t=1)
        with torch.no_grad():
            changes = {name: module(inputs[name]) - before[name] for name, module in attached.adapters.items()}
            backs = {name: signals[name] @ module.delta() for name, module in attached.adapters.items()}
            found["update_projection"] = sum(
                float(-(signals[name] * change).sum() / signals[name].norm()) for name, change in changes.items()
            )
            found["update_rms"] = _rms(list(changes.values()))
            found["input_gradient_rms"] = _rms(list(backs.values()))
    return found


def _rms(parts: list[Tensor]) -> float:
    return math.sqrt(sum(float(part.square().sum()) for part in parts) / sum(part.numel() for part in parts))


def _backward(attached: Attached, problem: Problem) -> tuple[list[Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """Gradients of all trainable factors, and inputs and signals of each adapted linear by its name."""
    inputs: dict[str, Tensor] = {}
    outputs: dict[str, Tensor] = {}

    def reader(name: str) -> Callable[..., None]:
        def hook(linear: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
            inputs[name], outputs[name] = args[0].detach(), output

        return hook

    # Registered after the adapters' own hooks, so that `output` holds the adapter's part and hangs on its factors.
    handles = [linear_at(problem.model, name).register_forward_hook(reader(name)) for name in attached.adapters]
    try:
        loss = problem.loss()
    finally:
        for handle in handles:
            handle.remove()
    parameters, names = attached.parameters(), list(attached.adapters)
    found = torch.autograd.grad(loss, [*parameters, *(outputs[name] for name in names)])
    return list(found[: len(parameters)]), inputs, dict(zip(names, found[len(parameters) :], strict=True))
