"""Adaptive steps with an epsilon beside the gradient: g/(|g| + eps) is g/eps where the gradient is small, its sign where it is large."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from fractions import Fraction
from typing import cast

import sympy as sp

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.optimizers import Optimizer, as_optimizer
from rsverify.records import Claim
from rsverify.symbolic.moments import symbols as s
from rsverify.symbolic.moments.flatdata import averaged, flat_values, random_names
from rsverify.symbolic.moments.sizes import factor_size
from rsverify.symbolic.steps.coherence import second_moment
from rsverify.symbolic.steps.magnitude import Magnitude, exact_number

CLEARLY = 0.01
"""A gradient entry of at most this share of epsilon is small: g/(|g| + eps) is g/eps to one percent."""


_SIZES = (1, 16, 1024, 2**20)
"""Ranks and widths at which a gradient's entries are held against epsilon: from one to beyond any layer."""


def entries_over_epsilon(adapter: Adapter, optimizer: Optimizer) -> tuple[sp.Expr, ...]:
    """The mean squares of the first gradient's entries over epsilon squared, of every factor that the step moves."""
    eps = exact_number(optimizer.option("eps"))
    squares = (second_moment(adapter, f"gradient:{name}") / factor_size(adapter, (name,)) / eps**2 for name in adapter.trainable)
    return tuple(cast(sp.Expr, sp.simplify(square)) for square in squares if square != 0)


def largest(entry: sp.Expr, adapter: Adapter | None, p: Fraction) -> float:
    """The largest of an entry's mean squares over ranks and widths from one to a million, at gamma = r**-p, on flat standard data."""
    entry = averaged(entry, random_names(map(str, entry.free_symbols)), adapter)
    names = {str(symbol): symbol for symbol in entry.free_symbols}
    entry = cast(sp.Expr, entry.subs({names[name]: value for name, value in flat_values(names).items()}))
    entry = cast(sp.Expr, entry.subs({s.gamma: s.r ** -sp.Rational(p), s.x_norm2: s.d_in, s.v_norm2: 1, s.cosine: 1}))
    entry = cast(sp.Expr, entry.subs({symbol: 1 for symbol in entry.free_symbols - {s.r, s.d_in, s.d_out}}))
    sizes = itertools.product(*(_SIZES if symbol in entry.free_symbols else (1,) for symbol in (s.r, s.d_in, s.d_out)))
    return max(float(entry.subs({s.r: r, s.d_in: d_in, s.d_out: d_out})) for r, d_in, d_out in sizes)


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
    entries = entries_over_epsilon(adapter, optimizer)
    roots = " and ".join(str(sp.sqrt(sp.factor_terms(entry * eps**2))) for entry in entries) or "0"
    note = (
        f"epsilon regime: where a gradient entry, {roots} in the root mean square, is far below eps = {optimizer.option('eps'):g}, the step"
        " is SGD's at lr/eps; where it is far above, a sign step; the crossover is where the two are equal"
    )
    value = sp.expand(small.value).xreplace({s.lr: s.lr / eps})
    return Magnitude(
        value, small.squared, False, "O(gradient entry / eps)", notes=(note, *small.notes), adapter=adapter, large=large, entries=entries,
    )  # fmt: skip


def is_small(found: Magnitude, entry_exponents: Sequence[Fraction], p: Fraction) -> bool:
    """Whether a gradient's entries are far below epsilon at every rank and width, given the powers of r of their mean squares."""
    if any(exponent > 0 for exponent in entry_exponents):
        return False
    return all(largest(entry, found.adapter, p) <= CLEARLY**2 * (1 + 1e-12) for entry in found.entries)
