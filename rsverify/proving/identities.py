"""Statements about formulas, decided by normal form: identities, inductions, and limits read off degrees."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import sympy as sp

from rsverify.proving import normalform
from rsverify.proving.checks import Check, Finding, ProofError, Twin
from rsverify.proving.corruption import corrupted


@dataclass(frozen=True)
class Identity(Check):
    """Two rational functions are the same for all values of their symbols, hence for every rank.

    Args: `left` is what was computed, `right` what is claimed; twins corrupt the claim. `said` is how the left side was written,
        where sympy has carried it out before anybody can read it. `where` are expressions assumed not to be zero: a side that
        divides by anything else that may vanish is refused.
    """

    left: sp.Expr
    right: sp.Expr
    said: str = ""
    where: tuple[sp.Expr, ...] = ()

    @property
    def claimed(self) -> sp.Expr:
        return self.right

    def claiming(self, claim: Any) -> Identity:
        return replace(self, right=claim)

    @property
    def checker(self) -> str:
        return normalform.CHECKER

    @property
    def scope(self) -> str:
        return "all r"

    def text(self) -> str:
        nonzero = "".join(f", where {expression} is not 0" for expression in self.where)
        return f"{self.said or self.left} = {self.right}{nonzero}"

    def run(self) -> Finding:
        if gap := normalform.undefined(self.left, self.right, where=self.where):
            return Finding("refuted", gap)
        same, rings = normalform.equal(self.left, self.right)
        if same:
            return Finding("proved", detail=rings)
        return Finding("refuted", normalform.counterexample(self.left, self.right), rings)

    def twins(self) -> tuple[Twin, ...]:
        return tuple(Twin(kind, replace(self, right=twin)) for kind, twin in corrupted(self.right))


@dataclass(frozen=True)
class Induction(Check):
    """A formula holds after any number of steps: it holds at the start, and one more step turns it into itself.

    Args:
        claim: the formula, in the symbols that change.
        start: the value of every changing symbol before the first step, e.g. {r: 0}.
        change: what one step makes of every changing symbol, e.g. {r: r + 1}.
        base: the true value at the start.
        recursion: the true value after one more step, from the value before it.
    """

    claim: sp.Expr
    start: Mapping[sp.Symbol, sp.Expr]
    change: Mapping[sp.Symbol, sp.Expr]
    base: sp.Expr
    recursion: Callable[[sp.Expr], sp.Expr] = field(repr=False)
    name: str = "f"

    @property
    def claimed(self) -> sp.Expr:
        return self.claim

    def claiming(self, claim: Any) -> Induction:
        return replace(self, claim=claim)

    @property
    def checker(self) -> str:
        return f"{normalform.CHECKER} of both halves of an induction"

    @property
    def scope(self) -> str:
        return "all r"

    def text(self) -> str:
        changes = ", ".join(f"{symbol} -> {after}" for symbol, after in self.change.items())
        starts = ", ".join(f"{symbol} = {value}" for symbol, value in self.start.items())
        return (
            f"{self.name} = {self.claim} because it is {self.base} at {starts},"
            f" and {changes} makes it {self.recursion(sp.Symbol(self.name))}"
        )

    def run(self) -> Finding:
        if gap := normalform.undefined(self.claim, self.base, self.recursion(self.claim), *self.change.values()):
            return Finding("refuted", gap)
        first, rings = normalform.equal(_put(self.claim, self.start), self.base)
        again, _ = normalform.equal(_put(self.claim, self.change), self.recursion(self.claim))
        return Finding("proved", detail=rings) if first and again else Finding("refuted", self._first_difference(), rings)

    def twins(self) -> tuple[Twin, ...]:
        return tuple(Twin(kind, replace(self, claim=twin)) for kind, twin in corrupted(self.claim))

    def _first_difference(self) -> str:
        """Follow the recursion in numbers until the claim is wrong."""
        value = sp.Symbol(f"{self.name} before")
        after = self.recursion(value)
        symbols = normalform.symbols_of(self.claim, after, self.base, *self.change.values())
        for trial in normalform.assignments(symbol for symbol in symbols if symbol != value):
            numbers = dict(trial)
            numbers.update({symbol: _number(begin, trial) for symbol, begin in self.start.items()})
            true = _number(self.base, numbers)
            for step in range(5):
                if (claimed := normalform.evaluate(self.claim, numbers)) != true:
                    return f"after {step} steps, {normalform.told(numbers)}: {self.name} is {true}, not {claimed}"
                true = _number(after, {**numbers, value: true})
                numbers.update({symbol: _number(change, numbers) for symbol, change in self.change.items()})
        return ""


@dataclass(frozen=True)
class Limit(Check):
    """A quotient of polynomials in sqrt(r) tends to a value as r grows, read off the degrees of its numerator and denominator.

    The value is right for all values that the other symbols may have: a leading coefficient of the denominator that may vanish is
    refused, and so is a root other than that of r. `said` is how the expression was written, where sympy has carried it out.
    """

    expression: sp.Expr
    value: sp.Expr
    r: sp.Symbol
    said: str = ""

    @property
    def claimed(self) -> sp.Expr:
        return self.value

    def claiming(self, claim: Any) -> Limit:
        return replace(self, value=claim)

    @property
    def checker(self) -> str:
        return "degrees of a polynomial normal form"

    @property
    def scope(self) -> str:
        return "limit"

    def text(self) -> str:
        return f"{self.said or self.expression} -> {self.value} as {self.r} grows"

    def run(self) -> Finding:
        if self.r in self.value.free_symbols:
            grown = self.value.subs(self.r, sp.Integer(10**6))
            return Finding("refuted", f"a limit is free of {self.r}, and {self.value} is not: at {self.r} = 10**6 it would be {grown}")
        root = sp.Symbol(f"sqrt_{self.r}", positive=True)
        rest = self._in_root(self.expression, root) - self.value
        others = [symbol for symbol in normalform.symbols_of(rest) if symbol != root]
        names = [root, *others]
        top, bottom = normalform.fraction_of(rest, names)
        detail = f"degrees {top.degree(0)} and {bottom.degree(0)} in sqrt({self.r})"
        if gap := normalform.undefined(self.value) or normalform.vanishing_lead(bottom, names):
            return Finding("refuted", gap, detail)
        if top == 0 or top.degree(0) < bottom.degree(0):
            return Finding("proved", detail=detail)
        for values in normalform.assignments(others):
            far = [normalform.evaluate(rest, {**values, root: Fraction(10**k)}) for k in (3, 6)]
            if all(off is not None and off != 0 for off in far):
                apart = " and ".join(f"{float(off):.6g}" for off in far if off is not None)
                return Finding(
                    "refuted", f"{normalform.told(values)}: off by {apart} at {self.r} = 10**6 and 10**12, and it does not shrink", detail
                )
        return Finding("refuted", detail=detail)

    def _in_root(self, expression: sp.Expr, root: sp.Symbol) -> Any:
        return expression.subs(self.r, root**2)  # sqrt(r) is the positive root; any other root stays one, and is refused by the ring

    def twins(self) -> tuple[Twin, ...]:
        of_value = [Twin(kind, replace(self, value=twin)) for kind, twin in corrupted(self.value) if self.value != 0]
        if self.value == 0:  # zero has no coefficient to corrupt: a limit of one instead, and one power of r more
            of_value = [Twin("coefficient", replace(self, value=sp.Integer(1)))]
        return (*of_value, Twin("exponent", Limit(self.expression * self.r, self.value, self.r)))


def _put(expression: sp.Expr, values: Mapping[sp.Symbol, sp.Expr]) -> Any:
    return expression.xreplace(dict(values))


def _number(expression: sp.Expr, values: Mapping[sp.Symbol, Fraction]) -> Fraction:
    value = normalform.evaluate(expression, values)
    if value is None:
        raise ProofError(f"{expression} divides by zero at {normalform.told(values)}")
    return value
