"""Magnitudes after one step of unit length on up times down: normalised SGD, and Muon on a rank-one gradient.

The first gradient of B is gamma v u', of rank one. Divided by its norm, or orthogonalised, it is the same: v u' / (|v| |u|).
So B moves by lr along it, and the output by gamma lr (u . u') / |u| along v, with u = A x and u' = A x'.
"""

from __future__ import annotations

from typing import Any

import sympy as sp

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.optimizers import Optimizer
from rsverify.errors import NotDerivable
from rsverify.records import Claim
from rsverify.symbolic.moments import symbols as s
from rsverify.symbolic.moments.sizes import factor_size
from rsverify.symbolic.steps.magnitude import Magnitude, decay_left
from rsverify.symbolic.steps.polynomial import learning_rate_ratio
from rsverify.symbolic.steps.twofactor import GAUSSIAN_LIMIT, TwoFactors

UNIT_LENGTH = ("normalized-sgd", "muon", "muon-torch")
"""Optimizers whose step on a rank-one gradient is lr, times a factor of shape, along the gradient's direction."""


def shape_factor(optimizer: Optimizer, rows: Any, columns: Any) -> Any:
    """What torch.optim.Muon multiplies a step by, sqrt(max(1, rows/columns)); 1 for the others."""
    return sp.sqrt(sp.Max(1, rows / columns)) if optimizer.name == "muon-torch" else sp.Integer(1)


def magnitude(adapter: Adapter, factors: TwoFactors, optimizer: Optimizer, claim: Claim) -> Magnitude:
    """The claim's magnitude after one step.

    Raises: NotDerivable beyond one step.
    """
    if claim.steps > 1:
        raise NotDerivable(f"from the second step on both factors move, and {optimizer.name} divides by norms that depend on all draws")
    if optimizer.name == "normalized-sgd" and optimizer.option("weight_decay"):
        raise NotDerivable("normalized-sgd has no weight decay")
    rows, columns = (s.d_out, s.r) if factors.up_rows_first else (s.r, s.d_out)
    rate = s.lr * learning_rate_ratio(optimizer, adapter, factors.up) * shape_factor(optimizer, rows, columns)
    kept = decay_left(optimizer.name, optimizer.option("weight_decay")) if factors.trains_down else sp.Integer(1)
    sigma2, variance = factors.sigma2, factors.variance
    length2 = s.r * sigma2  # E|u|**2
    # The mean length of a normal vector, sqrt(2) Gamma((r+1)/2) / Gamma(r/2), by Stirling's series.
    length = sp.sqrt(sigma2) * sp.sqrt(s.r) * (1 - 1 / (4 * s.r) + 1 / (32 * s.r**2))
    reach = s.gamma * rate * kept
    kind = claim.quantity.partition(":")[0]
    cosine2 = s.cosine**2

    def answer(value: Any, *, squared: bool = True, normal: bool = True) -> Magnitude:
        orders = [] if squared else ["O(1/r**3)"]
        notes: tuple[str, ...] = ()
        if normal and not factors.gaussian:
            orders, notes = [*orders, "O(1/d_in)"], (GAUSSIAN_LIMIT,)
        return Magnitude(value, squared, not orders, " + ".join(orders), notes=notes)

    if kind in ("output", "update"):
        if claim.statistic == "projection":
            return answer(reach * s.cosine * length, squared=False)
        # u' = c u + sqrt(1 - c**2) w with w independent of u: (u . u' / |u|)**2 is c**2 |u|**2 + (1 - c**2) sigma2 in the mean.
        square = reach**2 * (cosine2 * length2 + (1 - cosine2) * sigma2)
        return answer(square / (s.d_out if claim.statistic == "rms" else 1), normal=abs(claim.cosine) != 1)
    if kind == "input_gradient":
        if claim.statistic == "projection":
            return answer(-reach * sp.sqrt(s.v_norm2) * length / sp.sqrt(s.x_norm2), squared=False)
        # A'u/|u| is |u| x/|x|**2 along x, and a unit combination of the rows of A across it.
        square = reach**2 * s.v_norm2 * variance * (s.r + s.d_in - 1)
        return answer(square / (s.d_in if claim.statistic == "rms" else 1))
    if kind == "loss_decrease":
        reach = s.gamma * rate * sp.sqrt(s.v_norm2)
        return answer(reach * length, squared=False) if claim.statistic == "projection" else answer(reach**2 * length2, normal=False)
    of_up = s.gamma**2 * kept**2 * s.v_norm2 * length2
    of_down = s.gamma**2 * rate**2 * s.v_norm2 * s.x_norm2
    trained = [factors.up] + [factors.down] * factors.trains_down
    asked = trained if kind == "gradient_norm" else [str(claim.factor)]
    square = sp.Add(*(of_up if name == factors.up else of_down for name in asked))
    entries = factor_size(adapter, tuple(asked)) if claim.statistic == "rms" and claim.factor else 1
    return answer(square / entries, normal=False)
