"""What adaptive optimizers make of a scalar gradient whose shape in time is known: step sizes over the learning rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import sympy as sp

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.optimizers import Optimizer
from rsverify.definitions.rates import rate_ratio
from rsverify.symbolic.moments import symbols as s
from rsverify.symbolic.steps.magnitude import exact_number

SIGN_LIKE = ("signsgd", "lion", "adam", "adamw", "rmsprop", "adagrad", "adafactor")
"""Optimizers whose first step at epsilon 0 is a constant times the sign of the gradient (Adafactor: of a rank-one gradient)."""
_DIGITS = 10**12  # a step size is written as a fraction with at most so large a denominator

CAPPED = "Adafactor's rate is min(lr, 1/sqrt(t)): the power of lr is that of rates below the cap"


def sign_steps(optimizer: Optimizer, gradients: Sequence[float]) -> list[Any]:
    """The steps over lr that a scalar takes on nonnegative gradients of these relative sizes, at epsilon 0.

    A gradient that is zero at first moves nothing and is remembered as zero.
    """
    return [_written(step) for step in _steps(optimizer, gradients)]


def _steps(o: Optimizer, gradients: Sequence[float]) -> list[float]:
    found: list[float] = []
    m = square = 0.0
    for t, g in enumerate(gradients, start=1):
        if o.name in ("adam", "adamw"):
            b1, b2 = o.option("beta1"), o.option("beta2")
            m, square = b1 * m + (1 - b1) * g, b2 * square + (1 - b2) * g * g
            step = m / (1 - b1**t) / math.sqrt(square / (1 - b2**t)) if square else 0.0
        elif o.name == "rmsprop":
            square = o.option("alpha") * square + (1 - o.option("alpha")) * g * g
            step = g / math.sqrt(square) if square else 0.0
        elif o.name == "adagrad":
            square += g * g
            step = g / math.sqrt(square) if square else 0.0
        else:  # signs alone: gradients that never change sign move by one
            m += g
            step = 1.0 if m else 0.0
        found.append(step)
    return found


def first_rate(optimizer: Optimizer, adapter: Adapter, name: str) -> Any:
    """The learning rate of a factor at the first step: lr times its ratio, which Adafactor cuts off at 1/sqrt(1)."""
    rate = s.lr * exact_number(rate_ratio(optimizer, adapter, name))
    return sp.Min(1, rate) if optimizer.name == "adafactor" else rate


def first_factor(optimizer: Optimizer) -> Any:
    """The first step over lr * sign(gradient)."""
    if optimizer.name == "rmsprop":
        return 1 / sp.sqrt(1 - exact_number(optimizer.option("alpha")))
    if optimizer.name == "adafactor":  # relative to the factor's rms, which is zero: its floor
        return exact_number(optimizer.option("eps2")) * sp.Min(1, exact_number(optimizer.option("d")))
    return sp.Integer(1)


def _written(value: float) -> Any:
    fraction = Fraction(value).limit_denominator(_DIGITS)
    return sp.Rational(fraction.numerator, fraction.denominator)
