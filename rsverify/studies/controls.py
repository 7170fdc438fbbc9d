"""Controls of the training witness: its numbers beside those of another route, at one rank and draw.

A slope cannot see a lost constant or a flipped sign. Here adapters are really attached, gradients come from backward passes,
steps are taken, and the loss is read again by forward passes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.claims import Setting
from rsverify.records import Claim, Control, Measurement

if TYPE_CHECKING:
    from rsverify.training.model.problem import Problem

SMALL_LR = 1e-6
"""lr of the step taken by autograd: weight decay and the motion of A stay below the tolerance."""
AUTOGRAD_TOLERANCE = 1e-3
REAL_TOLERANCE = 0.01
HALVING_TOLERANCE = 0.2
FLOAT32_TOLERANCE = 0.02
"""For models whose own code computes norms in float32 whatever the dtype."""
PRACTICAL_RANKS = (4, 15, 61, 256)

_BY_AUTOGRAD = {
    ("gradient_norm", "frobenius"): ("gradient_norm", 0),
    ("loss_decrease", "rms"): ("loss_decrease", 1),
    ("update", "projection"): ("update_projection", 1),
    ("update", "rms"): ("update_rms", 1),
    ("input_gradient", "rms"): ("input_gradient_rms", 1),
}
"""The route's name for a quantity, and the power of lr in it."""


def controlled(
    settings: Sequence[Setting], measured: dict[Claim, Measurement], *, problem: Problem, alpha: float, seed: int, float64: bool
) -> dict[Claim, Measurement]:
    """The measurements with their controls, for each rule and optimizer.

    Args: float64 says whether the model computes in float64 throughout; only then can halving the lr be seen.
    """
    from rsverify.training.first_step.by_autograd import first_step_by_autograd
    from rsverify.training.first_step.small_lr import loss_decrease_check
    from rsverify.training.first_step.witness import has_closed_form

    found = dict(measured)
    for optimizer, rule in dict.fromkeys((s.optimizer, s.rule) for s in settings):
        mine = [s for s in settings if (s.optimizer, s.rule) == (optimizer, rule) and s.claim in measured]
        if not mine:
            continue
        adapter, ranks = mine[0].adapter, measured[mine[0].claim].ranks
        if not isinstance(adapter, Adapter):  # a module, or a weight of its own: nothing else here runs it
            continue
        at = len(ranks) // 2
        gamma = rule.gamma(ranks[at], alpha)
        closed = all(has_closed_form(s) for s in mine)
        lr = SMALL_LR if closed else measured[mine[0].claim].data["lr"]
        other = first_step_by_autograd(problem, adapter, rank=ranks[at], gamma=gamma, optimizer=optimizer, lr=lr, seed=seed, draw=0)
        for s in mine:
            named = _BY_AUTOGRAD.get((s.claim.quantity, s.claim.statistic))
            if named is None or s.claim.steps > 1:
                continue
            name, power = named
            if not other[name]:  # zero by both routes
                continue
            ratio = found[s.claim].per_seed[0][at] * (SMALL_LR**power if closed else 1.0) / other[name]
            tolerance = AUTOGRAD_TOLERANCE if float64 else FLOAT32_TOLERANCE
            route = "closed form" if closed else "layer by layer"
            _add(found, s.claim, Control(f"{route} over autograd at rank {ranks[at]}", ratio, 1.0, tolerance))
        if not closed:
            continue
        for s in mine:
            if s.claim.quantity != "loss_decrease":
                continue
            real = loss_decrease_check(problem, adapter, rule=rule, optimizer=optimizer, ranks=[ranks[at]], draws=1, alpha=alpha, seed=seed)
            ratio = 1 + float(np.abs(real.deviation).max())
            tolerance = REAL_TOLERANCE if float64 else FLOAT32_TOLERANCE
            _add(found, s.claim, Control("real over first-order loss decrease at a small lr", ratio, 1.0, tolerance))
            if not float64:
                continue
            shrinkage = float(np.median(real.shrinkage))
            _add(found, s.claim, Control("deviation at lr over deviation at lr / 2", shrinkage, 2.0, HALVING_TOLERANCE))
            few = [rank for rank in ranks if rank in PRACTICAL_RANKS]
            if len(few) > 1:
                practical = loss_decrease_check(
                    problem, adapter, rule=rule, optimizer=optimizer, ranks=few, draws=1, alpha=alpha, seed=seed
                )
                said = "no exponent (some step climbs)"
                if practical.practical_exponent is not None:
                    said = f"exponent {practical.practical_exponent:+.3f}"
                note = f"At the practical lr {practical.practical_lr:g} the real loss decrease of one step is another quantity: {said}."
                found[s.claim] = dataclasses.replace(found[s.claim], notes=(*found[s.claim].notes, note))
    return found


def _add(found: dict[Claim, Measurement], claim: Claim, control: Control) -> None:
    found[claim] = dataclasses.replace(found[claim], controls=(*found[claim].controls, control))
