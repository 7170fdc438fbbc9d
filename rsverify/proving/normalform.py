"""Normal forms of rational functions: two expressions are equal for all values exactly when a polynomial over Q has no terms.

Sums, products and whole powers are carried out in a polynomial ring; nothing is simplified by pattern. This is computer algebra,
not a proof kernel: the ring of sympy is trusted, and where python-flint is installed its ring must agree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

import sympy as sp
from sympy.polys.rings import ring

from rsverify.proving.checks import ProofError

CHECKER = "polynomial normal form"
TRIALS = 40
"""Assignments tried for a counter-example: more than the degree of any formula here, so that one symbol alone cannot escape."""


def equal(left: sp.Expr, right: sp.Expr) -> tuple[bool, str]:
    """Whether two rational functions are the same, and which rings said so.

    Raises: ProofError where an expression is not a rational function of its symbols.
    """
    names = symbols_of(left, right)
    if len({str(symbol) for symbol in names}) < len(names):
        raise ProofError(f"two different symbols share a name in {left} = {right}")
    same = _same(left, right, names, *_sympy_ring(names))
    if (second := _flint_ring(names)) is None:
        return same, "sympy's ring; python-flint is not installed, no second opinion"
    if _same(left, right, names, *second) != same:
        raise AssertionError(f"this is a bug of ours or of a ring: sympy and python-flint disagree on {left} = {right}")
    return same, "sympy's ring, python-flint's ring"


def undefined(*expressions: sp.Expr, where: Sequence[sp.Expr] = ()) -> str:
    """What some expressions divide by and nothing says is not zero, in words; empty where they are defined at all values.

    A divisor is known not to be zero where it is a polynomial with coefficients of one sign in symbols declared positive, or one of
    the expressions of `where` (up to its sign), or a product of such.
    """
    for expression in expressions:
        for part in sp.preorder_traversal(expression):
            if isinstance(part, sp.Pow) and part.exp.is_negative and not _known_nonzero(part.base, where):
                return f"it divides by {part.base}, which may be zero: nothing that is assumed forbids it"
    return ""


def _known_nonzero(divisor: sp.Expr, where: Sequence[sp.Expr]) -> bool:
    if divisor.is_positive or divisor.is_negative:
        return True
    top, _ = fraction_of(divisor, names := symbols_of(divisor, *where))
    _, factors = top.factor_list()
    allowed = [fraction_of(expression, names)[0] for expression in where]
    return bool(top) and all(never_zero(factor, names) or any(factor in (a, -a) for a in allowed) for factor, _ in factors)


def vanishing_lead(bottom: Any, names: Sequence[sp.Symbol]) -> str:
    """In words, the leading coefficient (by the first symbol) of a denominator, where it may vanish; empty where it cannot."""
    degree = bottom.degree(0)
    lead: Any = bottom.ring.from_dict({powers: coefficient for powers, coefficient in bottom.terms() if powers[0] == degree})
    bare = lead.quo(bottom.ring.gens[0] ** degree) if degree else lead
    if all(never_zero(factor, names) for factor, _ in bare.factor_list()[1]):
        return ""
    return f"the leading coefficient {bare} of what it divides by may be zero, and the limit is another there"


def never_zero(polynomial: Any, names: Sequence[sp.Symbol]) -> bool:
    """Whether a polynomial of sympy's ring has coefficients of one sign and only symbols that are declared positive."""
    terms = polynomial.terms()
    one_sign = len({coefficient > 0 for _, coefficient in terms}) == 1
    return one_sign and all(name.is_positive for powers, _ in terms for name, power in zip(names, powers, strict=True) if power)


def counterexample(left: sp.Expr, right: sp.Expr) -> str:
    """Values at which two expressions differ, in words; empty where none of the values tried does."""
    for values in assignments(symbols_of(left, right)):
        if (a := evaluate(left, values)) is not None and (b := evaluate(right, values)) is not None and a != b:
            return f"{told(values)}: {a} is not {b}"
    return ""


def told(values: Mapping[sp.Symbol, Fraction]) -> str:
    """Values in words."""
    return ", ".join(f"{symbol} = {value}" for symbol, value in values.items()) or "no symbol enters"


def symbols_of(*parts: Any) -> list[sp.Symbol]:
    """The symbols of some expressions or relations, by name."""
    entering = {symbol for part in parts for symbol in part.free_symbols}
    return sorted((symbol for symbol in entering if isinstance(symbol, sp.Symbol)), key=str)


def assignments(symbols: Iterable[sp.Symbol]) -> Iterator[dict[sp.Symbol, Fraction]]:
    """Distinct small primes for every symbol, in a few dozen ways: a polynomial that is not zero vanishes at few of them."""
    named = sorted(symbols, key=str)
    for shift in range(TRIALS):
        yield {symbol: Fraction(int(sp.prime(k + shift + 1))) for k, symbol in enumerate(named)}


def evaluate(expression: sp.Expr, values: Mapping[sp.Symbol, Fraction]) -> Fraction | None:
    """The value in exact fractions; None where a denominator vanishes."""
    try:
        return _walk(expression, lambda symbol: values[symbol], lambda p, q: Fraction(p, q), lambda a, n: a**n)
    except ZeroDivisionError:
        return None


def fraction_of(expression: sp.Expr, names: Sequence[sp.Symbol]) -> tuple[Any, Any]:
    """Numerator and denominator in sympy's ring over the symbols given."""
    variables, constant = _sympy_ring(names)
    return _fraction(expression, names, variables, constant)


def _same(left: sp.Expr, right: sp.Expr, names: Sequence[sp.Symbol], variables: Sequence[Any], constant: Any) -> bool:
    a, b = _fraction(left, names, variables, constant)
    c, d = _fraction(right, names, variables, constant)
    return a * d - c * b == constant(0, 1)


def _fraction(expression: sp.Expr, names: Sequence[sp.Symbol], variables: Sequence[Any], constant: Any) -> tuple[Any, Any]:
    by_symbol = dict(zip(names, variables, strict=True))
    one = constant(1, 1)

    def power(base: _Quotient, exponent: int) -> _Quotient:
        if exponent >= 0:
            return _Quotient(base.top**exponent, base.bottom**exponent)
        if base.top == constant(0, 1):
            raise ProofError(f"{expression} divides by zero")
        return _Quotient(base.bottom**-exponent, base.top**-exponent)

    quotient = _walk(expression, lambda symbol: _Quotient(by_symbol[symbol], one), lambda p, q: _Quotient(constant(p, q), one), power)
    return quotient.top, quotient.bottom


class _Quotient:
    """A numerator over a denominator, never cancelled: no gcd is needed to know that a difference is zero."""

    def __init__(self, top: Any, bottom: Any) -> None:
        self.top, self.bottom = top, bottom

    def __add__(self, other: _Quotient) -> _Quotient:
        if self.bottom == other.bottom:
            return _Quotient(self.top + other.top, self.bottom)
        return _Quotient(self.top * other.bottom + other.top * self.bottom, self.bottom * other.bottom)

    def __mul__(self, other: _Quotient) -> _Quotient:
        return _Quotient(self.top * other.top, self.bottom * other.bottom)


def _walk(node: sp.Basic, symbol: Callable[[sp.Symbol], Any], constant: Callable[[int, int], Any], power: Callable[[Any, int], Any]) -> Any:
    if isinstance(node, sp.Symbol):
        return symbol(node)
    if isinstance(node, sp.Rational):
        return constant(int(node.p), int(node.q))
    if isinstance(node, sp.Add | sp.Mul):
        total, *rest = (_walk(argument, symbol, constant, power) for argument in node.args)
        for value in rest:
            total = total + value if isinstance(node, sp.Add) else total * value
        return total
    if isinstance(node, sp.Pow) and isinstance(node.exp, sp.Integer):
        return power(_walk(node.base, symbol, constant, power), int(node.exp))
    raise ProofError(f"{node} is no rational function of symbols; give roots and other functions a symbol of their own")


def _sympy_ring(names: Sequence[sp.Symbol]) -> tuple[Sequence[Any], Callable[[int, int], Any]]:
    made, *variables = ring([str(symbol) for symbol in names], sp.QQ)
    return variables, lambda p, q: made(sp.QQ(p, q))


def _flint_ring(names: Sequence[sp.Symbol]) -> tuple[Sequence[Any], Callable[[int, int], Any]] | None:
    try:
        import flint
    except ImportError:
        return None
    context = flint.fmpq_mpoly_ctx.get([str(symbol) for symbol in names] or ["unused"], flint.Ordering.lex)
    return context.gens()[: len(names)], lambda p, q: context.constant(flint.fmpq(p, q))
