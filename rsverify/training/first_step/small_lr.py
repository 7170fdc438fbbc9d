"""Real loss decreases beside the first-order ones: what the limit of small lr means, and what a practical lr does instead."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.optimizers import Optimizer, as_optimizer
from rsverify.definitions.registry import as_adapter
from rsverify.definitions.rules import ALPHA, ScalingRule, as_rule
from rsverify.errors import InputError
from rsverify.statistics.intervals import slope_weights
from rsverify.training.adapters.attach import attach, build_adapters
from rsverify.training.adapters.contraction import AdapterModule, two_factors
from rsverify.training.first_step.probes import capture
from rsverify.training.model.problem import Problem
from rsverify.training.optimizers import first_step, silence

RELATIVE_DECREASE = 1e-4
"""Share of the loss that the small step is to take off: far above float64's rounding, far below the loss's curvature."""


@dataclass(frozen=True)
class LossDecreaseCheck:
    """Real over first-order loss decrease, minus one, at a small lr and at half of it; and the decrease at a practical lr.

    Shapes: `deviation`, `deviation_half` and `practical` (draws, ranks); where lr is small enough the second is half the first.
    `practical_exponent` is the slope over ranks of the decrease at `practical_lr`, another quantity than its small-lr limit;
    None where some step there climbs.
    """

    ranks: tuple[int, ...]
    deviation: np.ndarray
    deviation_half: np.ndarray
    practical: np.ndarray
    practical_lr: float
    practical_exponent: float | None

    @property
    def shrinkage(self) -> np.ndarray:
        """deviation / deviation_half: 2 where the small-lr limit is reached at first order."""
        return self.deviation / self.deviation_half


def loss_decrease_check(
    problem: Problem,
    adapter: Adapter | str = "lora",
    *,
    rule: ScalingRule | str | Callable[[int, float], float],
    optimizer: Optimizer | str,
    ranks: Sequence[int],
    draws: int = 2,
    alpha: float = ALPHA,
    seed: int = 0,
    practical_lr: float = 1e-3,
) -> LossDecreaseCheck:
    """Really take the first step, by forward passes with attached adapters, and compare with -<gradient, step>.

    The small lr of each configuration is the one that takes RELATIVE_DECREASE of the loss off, to first order.

    Raises: InputError for adapters other than an up-factor that is zero at init times a down-factor.
    """
    adapter, rule, optimizer = as_adapter(adapter), as_rule(rule), as_optimizer(optimizer)
    factors = two_factors(adapter)
    if (reason := silence(optimizer)) or factors is None:
        raise InputError(
            f"loss_decrease_check of {adapter.name!r}, {optimizer.text!r}: {reason or 'expected an up-factor times a down-factor'}"
        )
    up, down = factors
    seen = capture(problem)
    shape = (draws, len(ranks))
    # Rows: deviation, deviation at half the lr, decrease at the practical lr; kept on the device and read by the host once.
    measured = torch.zeros((3, *shape), dtype=torch.float64, device=seen.layers[0].G.device)
    for draw in range(draws):
        for j, rank in enumerate(ranks):
            gamma = rule.gamma(rank, alpha)
            modules = build_adapters(problem.model, adapter, rank=rank, gamma=gamma, targets=problem.targets, seed=seed, draw=draw)
            directions: dict[str, torch.Tensor] = {}
            first_order = measured.new_zeros(())
            for layer in seen.layers:
                g = gamma * layer.G @ modules[layer.name].factor(down).detach().T
                directions[layer.name] = optimizer.option("lr_ratio") * first_step(optimizer, g)
                first_order += (g * directions[layer.name]).sum()

            def decrease(
                lr: float | torch.Tensor, modules: dict[str, AdapterModule] = modules, directions: dict[str, torch.Tensor] = directions
            ) -> torch.Tensor:
                with attach(problem.model, modules), torch.no_grad():
                    for name, module in modules.items():
                        module.factor(up).copy_(-lr * directions[name])
                    return seen.loss - problem.loss().double()

            small = RELATIVE_DECREASE * seen.loss / first_order
            measured[0, draw, j] = decrease(small) / (small * first_order) - 1
            measured[1, draw, j] = decrease(small / 2) / (small / 2 * first_order) - 1
            measured[2, draw, j] = decrease(practical_lr)
    deviation, half, practical = measured.cpu().numpy()
    exponent = None
    if (practical > 0).all() and len(ranks) > 1:
        exponent = float((np.log(practical) @ slope_weights(np.log(ranks).tolist())).mean())
    return LossDecreaseCheck(tuple(ranks), deviation, half, practical, practical_lr, exponent)
