"""The quantities that formulas name, each made once: two symbols called r with different assumptions are two symbols."""

from __future__ import annotations

import sympy as sp

from rsverify.definitions import invariants

r = sp.Symbol("r", positive=True)
gamma = sp.Symbol("gamma", positive=True)
lr = sp.Symbol("lr", positive=True)
d_in = sp.Symbol("d_in", positive=True)
d_out = sp.Symbol("d_out", positive=True)
x_norm2 = sp.Symbol("x_norm2", positive=True)
v_norm2 = sp.Symbol("v_norm2", positive=True)
v_norm1 = sp.Symbol("v_norm1", positive=True)
cosine = sp.Symbol("cosine", real=True)
x_norm1 = sp.Symbol("x_norm1", positive=True)
x_sign = sp.Symbol("x_sign", real=True)
"""sum over i of sign(x_i) x'_i."""


def power_sum(a: int, b: int) -> sp.Expr:
    """sum over i of x_i**a x'_i**b, as `definitions.invariants` names it; norms and inner products at order 2."""
    if a + b == 0:
        return d_in
    if a + b == 2:
        return cosine * x_norm2 if a == 1 else x_norm2
    return sp.Symbol(invariants.power_sum(a, b), real=True)


def signal_sum(power: int) -> sp.Expr:
    """sum over j of v_j**power; the squared norm at order 2."""
    if power == 0:
        return d_out
    return v_norm2 if power == 2 else sp.Symbol(invariants.signal_sum(power), real=True)


def contraction(name: str) -> sp.Expr:
    """An invariant of data reshaped over a group, by its name."""
    return sp.Symbol(name, real=True)


def axis_size(axis: str) -> sp.Expr:
    """The size of an axis that follows from the widths by a function, not by a formula."""
    return sp.Symbol(f"n_{axis}", positive=True)


def sign_product(aligned_cosine: float) -> sp.Expr:
    """sum over i of sign(x_i) x'_i: the sum of magnitudes where the probe is the sample, whatever its sign."""
    return int(aligned_cosine) * x_norm1 if abs(aligned_cosine) == 1 else x_sign
