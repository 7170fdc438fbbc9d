"""Adaptive steps with an epsilon beside the gradient: g/(|g| + eps) is g/eps where the gradient is small, its sign where it is large."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import sympy as sp

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.optimizers import Optimizer, as_optimizer
from rsverify.records import Claim
from rsverify.symbolic.moments import symbols as s
from rsverify.symbolic.moments.sizes import factor_size
from rsverify.symbolic.steps.coherence import second_moment
from rsverify.symbolic.steps.magnitude import Magnitude, exact_number

CLEARLY = sp.Rational(1, 100)
"""A gradient entry of at most this share of epsilon is small: g/(|g| + eps) is g/eps to one percent."""


def entry_over_epsilon(adapter: Adapter, optimizer: Optimizer) -> Any:
    """The mean square of a first gradient's entries over epsilon squared, of the factor where it is largest at rank one."""
    eps = exact_number(optimizer.option("eps"))
    found = [second_moment(adapter, f"gradient:{name}") / factor_size(adapter, (name,)) / eps**2 for name in adapter.trainable]
    found = [sp.simplify(value) for value in found if value != 0]
    return max(found, key=lambda value: float(at_rank_one(value)), default=sp.Integer(0))


def at_rank_one(value: Any) -> Any:
    """The mean square at rank one, gamma = 1, one input and one output, on the standard data: entries of wider layers are smaller."""
    names = {symbol: sp.Integer(1) for symbol in value.free_symbols}
    return value.subs(names)


def linear_step(optimizer: Optimizer, adapter: Adapter, claim: Claim) -> tuple[Adapter, Optimizer, Claim]:
    """SGD with the options that an adaptive step far below epsilon has at a learning rate of lr/eps."""
    decay = optimizer.option("weight_decay")
    if optimizer.name == "adamw":  # decoupled: it is not divided by epsilon
        decay *= optimizer.option("eps")
    sgd = as_optimizer("sgd").with_options(weight_decay=decay, lr_ratio=optimizer.option("lr_ratio"))
    return adapter, sgd, claim


def joined(small: Magnitude, large: Magnitude, adapter: Adapter, optimizer: Optimizer) -> Magnitude:
    """Both regimes in one answer: the linear one, with the sign-like one beyond the crossover."""
    eps = exact_number(optimizer.option("eps"))
    entry = entry_over_epsilon(adapter, optimizer)
    root = sp.sqrt(sp.factor_terms(entry * eps**2))
    note = (
        f"epsilon regime: where a gradient entry, {root} in the root mean square, is far below eps = {optimizer.option('eps'):g}, the step"
        " is SGD's at lr/eps; where it is far above, a sign step; the crossover is where the two are equal"
    )
    value = sp.expand(small.value).xreplace({s.lr: s.lr / eps})
    return Magnitude(
        value, small.squared, False, "O(gradient entry / eps)", notes=(note, *small.notes), adapter=adapter, large=large, entry=entry,
    )  # fmt: skip


def is_small(found: Magnitude, entry_exponent: Fraction) -> bool:
    """Whether a gradient's entries are far below epsilon at every rank, given the power of r of their mean square."""
    return found.entry is not None and entry_exponent <= 0 and bool(at_rank_one(found.entry) <= CLEARLY**2)
