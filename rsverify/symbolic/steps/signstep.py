"""Magnitudes after sign-like steps on up times down, one step or several with the same sample and signal.

Every entry of B moves by lr against its gradient gamma v_j u_k, u = A x, so the rank channels k = 1..r add up as independent
draws: with (u, u') one channel's responses to sample and probe, moments of sums follow from E|u|, E[sign(u) u'] and E u'**2.
From the second step on A moves too, by lr sign(u_k) sign(x_i): every channel grows along its own sign, which therefore never turns.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import sympy as sp

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.optimizers import Optimizer
from rsverify.errors import NotDerivable
from rsverify.records import Claim
from rsverify.symbolic.moments import symbols as s
from rsverify.symbolic.moments.sizes import factor_size
from rsverify.symbolic.steps.magnitude import Magnitude, decay_left, exact_number
from rsverify.symbolic.steps.polynomial import learning_rate_ratio
from rsverify.symbolic.steps.scalarsteps import CAPPED, first_factor, first_rate, sign_steps
from rsverify.symbolic.steps.twofactor import GAUSSIAN_LIMIT, TwoFactors

FIRST_ORDER = "later steps of an adaptive optimizer are taken to first order in the drift of its gradient: O(lr)"


@dataclass(frozen=True)
class Moved:
    """Where the factors stand: B = -up sign(v) sign(u)', A = kept A_0 + lr down sign(u) sign(x)'."""

    up: Any
    down: Any
    kept: Any
    exact: bool


def moved(adapter: Adapter, factors: TwoFactors, optimizer: Optimizer, steps: int) -> Moved:
    """The factors after so many steps.

    Raises: NotDerivable where decay is coupled, or where a step follows the size of A.
    """
    kept = decay_left(optimizer.name, optimizer.option("weight_decay")) if factors.trains_down else sp.Integer(1)
    if steps > 1 and optimizer.name == "adafactor":
        raise NotDerivable("Adafactor's later steps follow the rms of the factors that the earlier ones moved")
    rate = s.lr * learning_rate_ratio(optimizer, adapter, factors.up)
    if steps == 1:
        return Moved(first_rate(optimizer, adapter, factors.up) * first_factor(optimizer), sp.Integer(0), kept, True)
    decay_left(optimizer.name, optimizer.option("weight_decay"))  # refuses decay of B that is coupled to its sign
    left_up = 1 - rate * exact_number(optimizer.option("weight_decay"))
    ups = sign_steps(optimizer, [1.0] * steps)
    # The gradient of A is gamma B'v x': it grows as B does, from nothing.
    seen = [0.0, *accumulate(float(step) for step in ups)][:steps]
    downs = sign_steps(optimizer, seen) if factors.trains_down else [sp.Integer(0)] * steps
    up = rate * sp.Add(*(step * left_up ** (steps - t) for t, step in enumerate(ups, start=1)))
    down = sp.Add(*(step * kept ** (steps - t) for t, step in enumerate(downs, start=1)))
    return Moved(up, down, kept**steps, optimizer.name in ("signsgd", "lion") or not factors.trains_down)


def magnitude(adapter: Adapter, factors: TwoFactors, optimizer: Optimizer, claim: Claim) -> Magnitude:
    """The claim's magnitude after the steps."""
    at = moved(adapter, factors, optimizer, claim.steps)
    variance, sigma2, mean_abs, kept = factors.variance, factors.sigma2, factors.mean_abs, at.kept
    pairs = s.r * (s.r - 1)
    drift = s.lr * at.down  # what A's motion adds to a response, over sum |x_i|
    kind = claim.quantity.partition(":")[0]

    def answer(value: Any, *, squared: bool = True, normal: bool = True) -> Magnitude:
        orders = ["O(1/d_in)"] * (normal and not factors.gaussian) + ["O(lr)"] * (not at.exact)
        notes = (GAUSSIAN_LIMIT,) * (normal and not factors.gaussian) + (FIRST_ORDER,) * (not at.exact)
        notes += (CAPPED,) * (optimizer.name == "adafactor")
        return Magnitude(value, squared, not orders, " + ".join(orders), notes=notes)

    if kind in ("output", "update"):
        # y = -gamma up sign(v) (kept sum_k sign(u_k) u'_k + r drift sum_i sign(x_i) x'_i)
        far = s.r * drift * s.sign_product(claim.cosine) if drift != 0 else sp.Integer(0)
        mean = s.r * s.cosine * mean_abs
        reach = s.gamma * at.up
        if claim.statistic == "projection":
            return answer(reach * s.v_norm1 / sp.sqrt(s.v_norm2) * (kept * mean + far), squared=False)
        square = kept**2 * (s.r * sigma2 + pairs * (s.cosine * mean_abs) ** 2) + 2 * kept * mean * far + far**2
        return answer(reach**2 * square * (1 if claim.statistic == "rms" else s.d_out))  # the rms is that of one entry
    if kind == "input_gradient":
        reach = s.gamma * at.up * s.v_norm1
        if claim.statistic == "projection":
            return answer(-reach * s.r * (kept * mean_abs + drift * s.x_norm1) / sp.sqrt(s.x_norm2), squared=False)
        # E[sign(u) A_k] points along x with length E|u| / |x|.
        square = kept**2 * (s.r * s.d_in * variance + pairs * mean_abs**2 / s.x_norm2)
        square += 2 * kept * s.r**2 * drift * mean_abs * s.x_norm1 / s.x_norm2 + s.r**2 * drift**2 * s.d_in
        return answer(reach**2 * square / (s.d_in if claim.statistic == "rms" else 1))
    if kind == "loss_decrease":  # of the first gradient along everything moved: A's first gradient is zero
        reach = s.gamma * at.up * s.v_norm1
        if claim.statistic == "projection":
            return answer(reach * s.r * mean_abs, squared=False)
        return answer(reach**2 * (s.r * sigma2 + pairs * mean_abs**2))
    grown = kept**2 * sigma2 + 2 * kept * drift * s.x_norm1 * mean_abs + drift**2 * s.x_norm1**2  # of one response, squared
    of_up = s.gamma**2 * s.v_norm2 * s.r * grown
    of_down = s.gamma**2 * (at.up * s.v_norm1) ** 2 * s.r * s.x_norm2
    trained = [factors.up] + [factors.down] * factors.trains_down
    asked = trained if kind == "gradient_norm" else [str(claim.factor)]
    square = sp.Add(*(of_up if name == factors.up else of_down for name in asked))
    # Without drift the gradients need no E|u|: they are exact for every law.
    entries = factor_size(adapter, tuple(asked)) if claim.statistic == "rms" and claim.factor else 1
    return answer(square / entries, normal=drift != 0)
