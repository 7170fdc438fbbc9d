"""From raw contractions of the first step to the quantities that claims name, for one rule.

All are in the limit of small lr and per unit of it (lr = 1): the model's own response to the step is of higher order.
A projection is positive where the step goes down the loss.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import torch

from rsverify.definitions.rules import ScalingRule
from rsverify.errors import RuleError
from rsverify.records import Claim
from rsverify.training.first_step.closed_form import FirstSteps
from rsverify.training.first_step.probes import Capture

ZERO = "zero"
"""Answer for a quantity that vanishes identically."""


def per_layer(
    claim: Claim, raw: FirstSteps, *, capture: Capture, gammas: np.ndarray, degree: int, ranks: np.ndarray, factors: tuple[str, str]
) -> np.ndarray | str:
    """What each layer contributes to the claim's quantity, signed for projections and loss decreases, squared for norms.

    `projection` of the update is sum_n -v_n . (gamma B A x_n) / |V|, layer by layer, |V| the Frobenius norm of the
    layer's signals over the batch: the batch's version of the component along -v. `combine` adds the layers.

    Args: gammas holds the rule's factor at each rank; degree the powers of gamma that S still lacks.
    Shapes: (layers, ranks, draws). Returns ZERO where the quantity vanishes identically, else another text: why training is silent.
    """
    up, down = factors
    at = (claim.quantity, claim.statistic)
    g = gammas[None, :, None]
    # One read of the device for all layers.
    norms = torch.stack([torch.stack([layer.V.norm(), layer.X.norm()]) for layer in capture.layers]).double().cpu().numpy()
    V, X = norms[:, 0, None, None], norms[:, 1, None, None]
    rows = np.array([layer.V.shape[1] for layer in capture.layers])[:, None, None]
    columns = np.array([layer.X.shape[1] for layer in capture.layers])[:, None, None]
    tokens = np.array([layer.tokens for layer in capture.layers])[:, None, None]
    forward = g ** (2 + 2 * degree)
    if claim.steps == 0:
        if claim.quantity in ("output", "input_gradient", f"gradient:{down}"):
            return ZERO
        if (claim.quantity == "gradient_norm" and claim.statistic in ("rms", "frobenius")) or at == (f"gradient:{up}", "frobenius"):
            return g**2 * raw.gradient
        if at == (f"gradient:{up}", "rms"):
            return g**2 * raw.gradient / (rows * ranks[None, :, None]).sum(0)
    elif claim.quantity == "loss_decrease" and claim.statistic in ("rms", "projection"):
        return g ** (1 + degree) * raw.decrease
    elif claim.quantity in ("update", "output"):
        if claim.statistic == "projection":
            return g ** (1 + degree) * raw.decrease / V
        return forward * raw.update / (1 if claim.statistic == "frobenius" else (tokens * rows).sum(0))
    elif claim.quantity == "input_gradient":
        if claim.statistic == "projection":
            return g ** (1 + degree) * raw.decrease / X
        return forward * raw.input_gradient / (1 if claim.statistic == "frobenius" else (tokens * columns).sum(0))
    elif claim.quantity == f"gradient:{down}" and claim.statistic in ("rms", "frobenius"):
        return forward * raw.gradient_down / (1 if claim.statistic == "frobenius" else (columns * ranks[None, :, None]).sum(0))
    return f"training does not measure {claim.quantity} {claim.statistic} at steps={claim.steps}"


def is_signed(claim: Claim) -> bool:
    """Whether layers add as signed numbers (projections, loss decreases) and not as squares."""
    return claim.quantity == "loss_decrease" or claim.statistic == "projection"


def combine(claim: Claim, layers: np.ndarray) -> np.ndarray:
    """The model's value for each draw and rank: the sum of signed contributions, or the root of the summed squares.

    Shapes: layers (layers, ranks, draws); result (draws, ranks).
    """
    total = layers.sum(axis=0).T
    return total if is_signed(claim) else np.sqrt(total)


def bracket(claim: Claim, rule: ScalingRule, *, degree: int | None) -> tuple[float, float] | None:
    """Where theory bounds the exponent but does not fix it: rms of the first step's forward and backward signals.

    In words: p = rule.power. |A'A x| lies between sqrt(r) (r << d, or unlike directions) and r (r >> d, or like ones),
    so SGD's gamma**2 A'A gives [1/2 - 2p, 1 - 2p]; a sign step keeps one gamma: [1/2 - p, 1 - p].
    """
    if (
        degree is None
        or claim.quantity not in ("update", "output", "input_gradient")
        or claim.statistic == "projection"
        or claim.steps != 1
    ):
        return None
    try:
        drop = (1 + degree) * rule.power
    except RuleError:
        return None
    return float(Fraction(1, 2) - drop), float(1 - drop)
