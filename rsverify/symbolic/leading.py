"""Reads exponents off an expression: as r grows at fixed widths, or with the widths grown first."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import Any

import sympy as sp

from rsverify.symbolic import symbols as s

_d = sp.Symbol("d", positive=True)


@lru_cache(maxsize=512)
def rank_terms(expression: sp.Expr, *, cosine: float, regime: str) -> dict[tuple[Fraction, Fraction, Fraction], sp.Expr]:
    """The terms of an expression by their powers (a, b, c) of gamma, r and lr, for a probe and a regime.

    In the width regime data is flat and of unit signal (x_norm2 = d_in, v_norm2 = 1), and only the largest power of the widths is kept.
    """
    expression = expression.subs(s.cosine, sp.nsimplify(cosine, rational=True))
    if regime == "width":
        expression = expression.subs(_flat(expression, cosine))
        expression = _widest(sp.expand(expression))
    found: dict[tuple[Fraction, Fraction, Fraction], sp.Expr] = {}
    for term in sp.Add.make_args(sp.expand(expression)):
        if term == 0:
            continue
        rest, powers = term, []
        for symbol in (s.gamma, s.r, s.lr):
            rest, power = rest.as_coeff_exponent(symbol)
            powers.append(Fraction(str(power)))
        key = (powers[0], powers[1], powers[2])
        found[key] = found.get(key, sp.Integer(0)) + rest
    return {key: value for key, value in found.items() if sp.expand(value) != 0}


def leading_exponent(terms: dict[tuple[Fraction, Fraction, Fraction], sp.Expr], p: Fraction) -> Fraction | None:
    """The largest power of r once gamma ~ r**-p; None where there is no term."""
    return max((b - a * p for a, b, _ in terms), default=None)


def _flat(expression: sp.Expr, cosine: float) -> dict[Any, Any]:
    c = sp.nsimplify(cosine, rational=True)
    values: dict[Any, Any] = {s.x_norm2: _d, s.d_in: _d, s.d_out: _d, s.v_norm2: sp.Integer(1), s.v_norm1: sp.sqrt(_d)}
    for symbol in expression.free_symbols:
        name = str(symbol)
        if name[0] == "S" and name[1:].isdigit():
            values[symbol] = _d * (c if int(name[1]) % 2 else 1)
    return values


def _widest(expression: sp.Expr) -> sp.Expr:
    by_power: dict[sp.Expr, sp.Expr] = {}
    for term in sp.Add.make_args(expression):
        coefficient, power = term.as_coeff_exponent(_d)
        by_power[power] = by_power.get(power, sp.Integer(0)) + coefficient
    kept = {power: value for power, value in by_power.items() if sp.expand(value) != 0}
    return kept[max(kept)] if kept else sp.Integer(0)
