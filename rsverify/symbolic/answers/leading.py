"""Reads exponents off an expression: as r grows at fixed widths, or with the widths grown first."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from functools import lru_cache
from typing import Any, cast

import sympy as sp

from rsverify.definitions.adapter import Adapter
from rsverify.errors import NotDerivable
from rsverify.symbolic.moments import symbols as s
from rsverify.symbolic.moments.flatdata import averaged, changing, flat_values, random_names
from rsverify.symbolic.moments.sizes import growth

Terms = dict[tuple[Fraction, Fraction, Fraction], sp.Expr]

log_r = sp.Symbol("log_r", positive=True)
"""log r, as a coefficient holds it: it orders terms of the same power."""

_d = sp.Symbol("d", positive=True)


@lru_cache(maxsize=512)
def rank_terms(expression: sp.Expr, *, cosine: float, regime: str, adapter: Adapter | None = None) -> Terms:
    """The terms of an expression by their powers (a, b, c) of gamma, r and lr, for a probe and a regime.

    In the width regime data is flat and of unit signal (x_norm2 = d_in, v_norm2 = 1), and of each power of gamma and lr only the
    largest power of the widths is kept. Where the expression is no polynomial in r (denominators, sums over components), of each
    power of gamma and lr only the leading power of r is found. Invariants of data reshaped over an axis that grows with r are flat too.

    Raises: NotDerivable where the size of an axis decides and is not a formula, or where there is no power law.
    """
    expression = _small_rates(expression.subs(s.cosine, sp.nsimplify(cosine, rational=True)))
    expression = _with_flat_data(expression, cosine, regime, adapter)
    if regime == "width":
        unknown = [str(symbol) for symbol in expression.free_symbols if str(symbol).startswith("n_")]
        if unknown:
            raise NotDerivable(f"how {min(unknown)} grows with the width is no formula; give sizes= as formulas in d_in and d_out")
    terms: Terms = {}
    for (a, c), rest in _by_powers(expression, (s.gamma, s.lr)).items():
        if regime == "width":
            rest = _leading(_resolved(rest, _d), _d)[1]
        rest = _resolved(rest, s.r)
        try:
            found = {powers[0]: value for powers, value in _by_powers(rest, (s.r,)).items()}
        except NotDerivable:
            if sp.together(rest) == 0:  # as an orthogonal probe's output once r rows span all inputs
                continue
            power, value = _leading(rest, s.r)
            found = {power: value}
        for b, value in found.items():
            if not _vanishes(value):
                terms[a, b, c] = value
    return terms


def coefficient(expression: sp.Expr, powers: tuple[Fraction, Fraction], *, adapter: Adapter) -> sp.Expr:
    """What stands beside gamma**a * lr**c for an aligned probe on flat data: in r, the widths, x_norm2 and v_norm2.

    Raises: NotDerivable where gamma and lr do not stand as powers.
    """
    names = {str(symbol): symbol for symbol in expression.free_symbols}
    expression = averaged(_small_rates(expression), random_names(names), adapter)
    known: dict[Any, Any] = {names[name]: value for name, value in flat_values(names).items()}
    return _by_powers(cast(sp.Expr, expression.subs(known).subs(s.cosine, 1)), (s.gamma, s.lr))[powers]


def width_power(expression: sp.Expr, *, cosine: float, adapter: Adapter | None = None) -> Fraction:
    """The largest power of the widths, of flat data on d_in = d_out."""
    expression = _with_flat_data(_small_rates(expression), cosine, "width", adapter)
    return max((_leading(_resolved(rest, _d), _d)[0] for rest in _by_powers(expression, (s.gamma, s.lr)).values()), default=Fraction(0))


def leading_exponent(terms: Mapping[tuple[Fraction, Fraction, Fraction], sp.Expr], p: Fraction) -> Fraction | None:
    """The largest power of r once gamma ~ r**-p; None where there is no term."""
    return max((b - a * p for a, b, _ in terms), default=None)


def log_exponent(terms: Mapping[tuple[Fraction, Fraction, Fraction], sp.Expr], p: Fraction) -> Fraction:
    """The power of log r beside the largest power of r."""
    top = leading_exponent(terms, p)
    degrees = [sp.Poly(value, log_r).degree() if value.has(log_r) else 0 for (a, b, _), value in terms.items() if b - a * p == top]
    return Fraction(int(max(degrees, default=0)))


def _by_powers(expression: sp.Expr, symbols: tuple[sp.Symbol, ...]) -> dict[tuple[Fraction, ...], sp.Expr]:
    """Coefficients by powers of the symbols.

    Raises: NotDerivable where a symbol stands other than as a factor with a power.
    """
    if isinstance(expression, sp.Mul):  # a factored product gives its powers without being multiplied out
        rest, powers = expression, []
        for symbol in symbols:
            rest, power = rest.as_coeff_exponent(symbol)
            powers.append(power)
        if not rest.has(*symbols):
            return {} if _vanishes(rest) else {tuple(Fraction(str(power)) for power in powers): rest}
    if any(power.exp.is_negative and power.base.is_Add and power.has(*symbols) for power in expression.atoms(sp.Pow)):
        raise NotDerivable(f"a sum with {symbols[0]} stands in a denominator")
    found: dict[tuple[Fraction, ...], sp.Expr] = {}
    for term in sp.Add.make_args(sp.expand(expression)):
        if term == 0:
            continue
        rest, powers = term, []
        for symbol in symbols:
            rest, power = rest.as_coeff_exponent(symbol)
            if rest.has(symbol):
                raise NotDerivable(f"{term} is no power of {symbol}")
            powers.append(Fraction(str(power)))
        key = tuple(powers)
        found[key] = found.get(key, sp.Integer(0)) + rest
    return {key: value for key, value in found.items() if not _vanishes(value)}


def _small_rates(expression: sp.Expr) -> sp.Expr:
    """The expression below any cap on a learning rate: powers of lr are those of small rates."""
    caps: dict[Any, Any] = {cap: next(arg for arg in cap.args if arg.has(s.lr)) for cap in expression.atoms(sp.Min) if cap.has(s.lr)}
    return cast(sp.Expr, expression.xreplace(caps)) if caps else expression


def _vanishes(value: sp.Expr) -> bool:
    return value == 0 or (isinstance(value, sp.Add) and sp.expand(value) == 0)


def _leading(expression: sp.Expr, symbol: sp.Symbol) -> tuple[Fraction, sp.Expr]:
    """The largest power of a symbol in a rational function of its roots, and the coefficient."""
    powers: list[Any] = [power.exp for power in expression.atoms(sp.Pow) if power.base == symbol]
    root = math.lcm(*(int(power.q) for power in powers if power.is_Rational))
    t = sp.Symbol("t", positive=True)
    top, bottom = sp.fraction(sp.together(expression.subs(symbol, t**root)))
    try:
        up, down = sp.Poly(top, t), sp.Poly(bottom, t)
    except sp.PolynomialError:
        raise NotDerivable(f"{sp.factor_terms(expression)} has no power law in {symbol}") from None
    return Fraction(int(up.degree()) - int(down.degree()), root), sp.cancel(up.LC() / down.LC())


def _resolved(expression: sp.Expr, symbol: sp.Symbol) -> sp.Expr:
    """Largest and smallest of two, and sums over components, as they are once the symbol is large."""
    put_in: dict[Any, Any] = {}
    for choice in expression.atoms(sp.Max, sp.Min):
        if choice.has(symbol):
            parts = [_leading(cast(sp.Expr, argument), symbol) for argument in choice.args]
            best = (max if isinstance(choice, sp.Max) else min)(power for power, _ in parts)
            # Where several grow alike their coefficients decide, whatever these are.
            put_in[choice] = symbol ** sp.Rational(best) * choice.func(*(value for power, value in parts if power == best))
    for total in expression.atoms(sp.harmonic):
        upper: Any = total.args[0]
        decay: Any = total.args[1] if len(total.args) > 1 else sp.Integer(1)
        if upper == symbol:  # sum over k <= r of k**-decay
            put_in[total] = sp.zeta(decay) if decay > 1 else log_r if decay == 1 else symbol ** (1 - decay) / (1 - decay)
    return cast(sp.Expr, expression.subs(put_in)) if put_in else expression


def _with_flat_data(expression: sp.Expr, cosine: float, regime: str, adapter: Adapter | None) -> sp.Expr:
    """The expression with flat data put in: all of it in the width regime, else only invariants that change with the rank.

    A product of invariants is averaged as one: the mean of a square is not the square of a mean.
    """
    names = {str(symbol): symbol for symbol in expression.free_symbols}
    c = sp.nsimplify(cosine, rational=True)
    random = random_names(names)
    if random:
        if regime == "width":
            expression = averaged(expression, random, adapter)
        elif growing := {names[name] for name in changing(names, adapter)}:
            # Beside an invariant that differs at every rank, the others are those of the same flat data.
            terms = sp.Add.make_args(sp.expand(expression))
            expression = sp.Add(*(averaged(term, random, adapter) if term.has(*growing) else term for term in terms))
    expression = expression.subs(s.cosine, c)
    if regime != "width":
        return expression
    widths: dict[Any, Any] = {s.x_norm2: _d, s.v_norm2: sp.Integer(1), s.cosine: c, s.d_in: _d, s.d_out: _d}
    known: dict[Any, Any] = {names[name]: value for name, value in flat_values(names).items()}
    if adapter is not None:
        widths = {**{s.axis_size(axis): size.subs(widths) for axis, size in growth(adapter).items()}, **widths}
    return cast(sp.Expr, expression.subs(known).subs(widths))
