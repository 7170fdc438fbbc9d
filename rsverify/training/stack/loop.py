"""A plain training run of one adapter configuration, with probes read at every step.

Minimal on purpose: one configuration, real autograd, the witness's own optimizers. It is also the independent route that
the closed form of the first step is held against.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.optimizers import Optimizer, as_optimizer
from rsverify.definitions.registry import as_adapter
from rsverify.definitions.rules import ALPHA, ScalingRule, as_rule
from rsverify.errors import InputError
from rsverify.training.adapters.advance import advance, factor_norms
from rsverify.training.adapters.attach import Attached, attach, build_adapters
from rsverify.training.model.problem import Problem
from rsverify.training.optimizers import State, silence


@dataclass(frozen=True)
class StepRecord:
    """What one step showed: the state before it, and what it was about to do.

    Args:
        step: from 0. loss: before the step. gradient_norm: over all trainable factors.
        factor_gradients: Frobenius norm of the gradient of each factor by name, over all layers.
        output_rms: rms of what the adapters add, over tokens, entries and layers.
        first_order: -<gradient, step> of the step taken. decrease: this loss minus the next one, on this step's own batch.
    """

    step: int
    loss: float
    gradient_norm: float
    factor_gradients: dict[str, float]
    output_rms: float
    first_order: float
    decrease: float


@dataclass(frozen=True)
class Run:
    """A finished run: its configuration and one record per step; `diverged` is the step whose loss was not finite, or None."""

    adapter: str
    rule: str
    optimizer: str
    rank: int
    gamma: float
    lr: float
    records: tuple[StepRecord, ...]
    diverged: int | None = None

    @property
    def losses(self) -> tuple[float, ...]:
        return tuple(record.loss for record in self.records)


def train(
    problem: Problem,
    adapter: Adapter | str,
    *,
    rule: ScalingRule | str | Callable[[int, float], float],
    rank: int,
    optimizer: Optimizer | str = "adamw",
    lr: float = 1e-3,
    steps: int = 10,
    alpha: float = ALPHA,
    seed: int = 0,
    draw: int = 0,
    losses: Sequence[Callable[[], Tensor]] | None = None,
) -> Run:
    """Train fresh adapters on the problem's targets for some steps; the model is as before afterwards.

    Args: losses are batches to go through in turn, by default the problem's own one at every step.
    Raises: InputError for an optimizer that training has no update for.
    """
    adapter, rule, optimizer = as_adapter(adapter), as_rule(rule), as_optimizer(optimizer)
    if reason := silence(optimizer):
        raise InputError(f"optimizer={optimizer.text!r}: {reason}")
    if steps < 1:
        raise InputError(f"steps={steps}; expected at least 1")
    gamma = rule.gamma(rank, alpha)
    modules = build_adapters(problem.model, adapter, rank=rank, gamma=gamma, targets=problem.targets, seed=seed, draw=draw)
    batches = list(losses) if losses else [problem.loss]
    records: list[StepRecord] = []
    states: dict[nn.Parameter, State] = {}
    diverged: int | None = None
    with attach(problem.model, modules) as attached:
        for step in range(steps):
            batch = batches[step % len(batches)]
            loss, output_rms = _loss_and_output(attached, batch)
            if not math.isfinite(loss.item()):
                diverged = step
                break
            parameters = attached.parameters()
            gradients = torch.autograd.grad(loss, parameters)
            norms = factor_norms(attached, gradients)
            first_order = advance(attached, gradients, optimizer=optimizer, lr=lr, states=states, t=step + 1)
            with torch.no_grad():
                decrease = loss.item() - batch().item()
            total = math.sqrt(sum(norm**2 for norm in norms.values()))
            records.append(StepRecord(step, loss.item(), total, norms, output_rms, first_order, decrease))
    return Run(adapter.name, rule.text, optimizer.text, rank, gamma, lr, tuple(records), diverged)


def _loss_and_output(attached: Attached, batch: Callable[[], Tensor]) -> tuple[Tensor, float]:
    """The loss, and the rms of what the adapters added on the way."""
    squares, count = [], 0

    def read(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        nonlocal count
        squares.append(output.detach().square().sum())
        count += output.numel()

    handles = [module.register_forward_hook(read) for module in attached.adapters.values()]
    try:
        loss = batch()
    finally:
        for handle in handles:
            handle.remove()
    return loss, math.sqrt(float(torch.stack(squares).sum()) / count) if squares else 0.0
