"""Squared magnitudes after one step of a sign-like optimizer on a two-factor adapter whose up-factor is zero at init.

Every entry of B moves by lr against its gradient gamma v_j u_k, u = A x, so the rank channels k = 1..r add up as independent
draws: with (u, u') one channel's responses to sample and probe, moments of sums follow from E|u|, E[sign(u) u'] and E u'**2.
For Gaussian A these close exactly; otherwise E|u| is the Gaussian one to O(1/d_in) (central limit over the inputs).
"""

from __future__ import annotations

import sympy as sp

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.laws import Frozen, Gaussian, Zero
from rsverify.definitions.optimizers import Optimizer
from rsverify.errors import NotDerivable
from rsverify.records import Claim
from rsverify.symbolic import symbols as s
from rsverify.symbolic.magnitude import Magnitude, decay_left
from rsverify.symbolic.moments import spread
from rsverify.symbolic.network import single_axes
from rsverify.symbolic.polynomial import factor_size, learning_rate_ratio

FIRST_STEP: dict[str, sp.Expr] = {name: sp.Integer(1) for name in ("signsgd", "lion", "adam", "adamw", "adagrad")}
"""Optimizers whose first step at epsilon 0 is lr times the sign of the gradient, and the factor in front."""


GAUSSIAN_LIMIT = "E|u| of a sign step is the Gaussian one: exact for Gaussian A, else to O(1/d_in)"


def first_step_factor(optimizer: Optimizer) -> sp.Expr | None:
    """The factor of lr * sign(gradient) that a first step is; None for other optimizers."""
    if optimizer.name == "rmsprop":
        return 1 / sp.sqrt(1 - sp.nsimplify(optimizer.option("alpha"), rational=True))
    return FIRST_STEP.get(optimizer.name)


def two_factors(adapter: Adapter) -> tuple[str, str]:
    """Names of the up- and the down-factor.

    Raises: NotDerivable for any other structure.
    """
    rows, columns = single_axes(adapter)
    by_axes = {frozenset(axes): name for name, axes in adapter.operands.items()}
    rank = adapter.rank_axes[0]
    up, down = by_axes.get(frozenset((rows, rank))), by_axes.get(frozenset((rank, columns)))
    if len(adapter.operands) != 2 or up is None or down is None:
        raise NotDerivable(f"a sign step is derived for two factors (up times down) only, and {adapter.expression!r} has another structure")
    law = adapter.laws[up]
    if not isinstance(law, Zero) or not law.trainable:
        raise NotDerivable(f"a sign step is derived where {up} is zero at init and trained; here it is {law.text()}")
    return up, down


def is_gaussian(adapter: Adapter, name: str) -> bool:
    law = adapter.laws[name]
    return isinstance(law.law if isinstance(law, Frozen) else law, Gaussian)


def magnitude(adapter: Adapter, optimizer: Optimizer, claim: Claim) -> Magnitude:
    """The claim's magnitude after one step."""
    up, down = two_factors(adapter)
    if claim.steps != 1:
        raise NotDerivable("more than one sign-like step is not polynomial in the draws; the numeric witnesses can speak")
    if optimizer.option("clip"):
        raise NotDerivable("clipping ties the step to the norm over all layers")
    law = adapter.laws[down]
    if not law.independent or law.standard_moment(1) != 0:
        raise NotDerivable(f"a sign step is derived for independent centred entries of {down}; here it is {law.text()}")
    factor = first_step_factor(optimizer)
    assert factor is not None
    rate = s.lr * factor * learning_rate_ratio(optimizer, up)
    variance = sp.Rational(law.standard_moment(2)) * spread(adapter, down) ** 2
    kept = decay_left(optimizer.name, optimizer.option("weight_decay")) if law.trainable else sp.Integer(1)
    sigma2 = variance * s.x_norm2  # variance of one channel's response u
    mean_abs = sp.sqrt(2 / sp.pi) * sp.sqrt(sigma2)  # E|u|
    pairs = s.r * (s.r - 1)
    kind = claim.quantity.partition(":")[0]
    exact = is_gaussian(adapter, down)

    def answer(value: sp.Expr, *, squared: bool = True) -> Magnitude:
        return Magnitude(value, squared) if exact else Magnitude(value, squared, False, "O(1/d_in)", notes=(GAUSSIAN_LIMIT,))

    if kind in ("output", "update"):
        reach = s.gamma * rate * kept
        if claim.statistic == "projection":
            return answer(reach * s.v_norm1 / sp.sqrt(s.v_norm2) * s.r * s.cosine * mean_abs, squared=False)
        square = reach**2 * (s.r * sigma2 + pairs * (s.cosine * mean_abs) ** 2)  # of one output entry
        return answer(square * (1 if claim.statistic == "rms" else s.d_out))
    if kind == "input_gradient":
        reach = s.gamma * rate * kept * s.v_norm1
        if claim.statistic == "projection":
            return answer(-reach * s.r * mean_abs / sp.sqrt(s.x_norm2), squared=False)
        # E[sign(u) A_k] points along x with length E|u| / |x|.
        square = reach**2 * (s.r * s.d_in * variance + pairs * mean_abs**2 / s.x_norm2)
        return answer(square / (s.d_in if claim.statistic == "rms" else 1))
    if kind == "loss_decrease":
        reach = s.gamma * rate * s.v_norm1
        if claim.statistic == "projection":
            return answer(reach * s.r * mean_abs, squared=False)
        return answer(reach**2 * (s.r * sigma2 + pairs * mean_abs**2))
    if claim.statistic == "projection":
        raise NotDerivable("a projection is defined for output, update, input_gradient and loss_decrease only")
    of_up = s.gamma**2 * kept**2 * s.v_norm2 * s.r * sigma2
    of_down = s.gamma**2 * (rate * s.v_norm1) ** 2 * s.r * s.x_norm2
    trained = [name for name in (up, down) if name in adapter.trainable]
    asked = trained if kind == "gradient_norm" else [str(claim.factor)]
    square = sp.Add(*(of_up if name == up else of_down for name in asked))
    # The gradient of the up-factor needs no E|u|: it is exact for every law.
    return Magnitude(square / (factor_size(adapter, tuple(asked)) if claim.statistic == "rms" and claim.factor else 1), True)
