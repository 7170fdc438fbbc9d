"""Inequalities over the reals, decided by z3: the negation has no solution, or the solution is the counter-example."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import sympy as sp
from sympy.logic.boolalg import BooleanFalse, BooleanTrue

from rsverify.proving.checks import Check, Corruption, Finding, ProofError, Twin
from rsverify.proving.normalform import symbols_of

MILLISECONDS = 10_000
"""After this z3 gives up and the step is undecided."""


@dataclass(frozen=True)
class Inequality(Check):
    """A claim follows from what is given, for all real values of its symbols.

    Args:
        claim: relations of polynomials and roots, joined by And, Or, Not, Implies, Equivalent.
        given: what is assumed of the symbols, beside that those declared positive or nonnegative are. By these assumptions alone what
            the claim divides by must not be zero, and what it takes a root of must not be negative.
        corrupted: claims that look alike and are false, each with what was corrupted.
        scope_text: "all r" unless a symbol is bounded.
    """

    claim: Any
    given: tuple[Any, ...]
    corrupted: tuple[tuple[Corruption, Any], ...]
    scope_text: str = "all r"

    @property
    def checker(self) -> str:
        return "z3"

    @property
    def scope(self) -> str:
        return self.scope_text

    def text(self) -> str:
        symbols = symbols_of(self.claim, *self.given)
        positive = [f"{symbol} {'>' if symbol.is_positive else '>='} 0" for symbol in symbols if symbol.is_nonnegative]
        conditions = ", ".join([*map(str, self.given), *positive])
        return f"{self.claim}{f', where {conditions}' if conditions else ''}"

    @property
    def claimed(self) -> Any:
        return self.claim

    def claiming(self, claim: Any) -> Inequality:
        return replace(self, claim=claim)

    def run(self) -> Finding:
        try:
            import z3
        except ImportError:
            return Finding("skipped", detail="z3 is not installed: pip install 'rsverify[proofs]'")
        reader = _Reader(z3, (*self.given, self.claim))
        for condition in self.given:
            known = reader.read(condition)
            if (gap := reader.gap()) is not None:
                return gap
            reader.known.append(known)
        claim = reader.read(self.claim)
        if (gap := reader.gap()) is not None:
            return gap
        solver = reader.solver(z3.Not(claim))
        answer = solver.check()
        if answer == z3.unsat:
            return Finding("proved", detail="the negation has no solution")
        if answer == z3.unknown:
            return Finding("undecided", detail=f"z3 gave up: {solver.reason_unknown()}")
        values = reader.values(solver.model())
        return Finding("refuted", _spelled(values), self._again(values))

    def _again(self, values: Mapping[sp.Symbol, Any]) -> str:
        """Put a counter-example back into the formulas, without z3."""
        if not all(hasattr(value, "as_fraction") for value in values.values()):
            return "z3 found a solution of the negation, in algebraic numbers"
        exact = {symbol: sp.Rational(str(value.as_fraction())) for symbol, value in values.items()}
        conditions: list[Any] = [*self.given, sp.Not(self.claim)]
        holds = [bool(condition.subs(exact)) for condition in conditions]
        if not all(holds):
            raise AssertionError(f"this is a bug of ours or of z3: {exact} was given as a counter-example of {self.text()} and is none")
        return "z3 found a solution of the negation, and it is one in exact arithmetic"

    def given_holds(self) -> bool:
        """Whether the assumptions can hold at all: from a contradiction everything follows."""
        import z3

        reader = _Reader(z3, self.given)
        reader.known += [reader.read(condition) for condition in self.given]
        return reader.gap() is None and reader.solver().check() == z3.sat

    def twins(self) -> tuple[Twin, ...]:
        return tuple(Twin(kind, Inequality(claim, self.given, (), self.scope_text)) for kind, claim in self.corrupted)


def _decimal(value: Any) -> str:
    return value.as_decimal(6) if hasattr(value, "as_decimal") else str(value)


def _spelled(values: Mapping[sp.Symbol, Any]) -> str:
    return ", ".join(f"{symbol} = {_decimal(value)}" for symbol, value in values.items())


class _Reader:
    """Formulas told to z3, with what is known so far and what has to be known for them to say anything.

    A quotient and a root say something only where the divisor is not zero and the argument is not negative. Both are claims: they
    must follow from what is assumed, and are not assumptions.
    """

    def __init__(self, z3: Any, formulas: tuple[Any, ...]) -> None:
        self.z3 = z3
        self.names: dict[sp.Symbol, Any] = {}
        for symbol in symbols_of(*formulas):
            if str(symbol) in map(str, self.names):
                raise ProofError(f"two different symbols are called {symbol}")
            self.names[symbol] = z3.Real(str(symbol))
        self.known: list[Any] = [
            variable > 0 if symbol.is_positive else variable >= 0 for symbol, variable in self.names.items() if symbol.is_nonnegative
        ]
        self._pending: list[tuple[Any, str]] = []
        """In the order met: conditions with what they say in words, and definitions of roots, which have no words."""

    def solver(self, *more: Any) -> Any:
        solver = self.z3.Solver()
        solver.set("timeout", MILLISECONDS)
        solver.add(*self.known, *more)
        return solver

    def values(self, model: Any) -> dict[sp.Symbol, Any]:
        return {symbol: model.evaluate(self.names[symbol], model_completion=True) for symbol in sorted(self.names, key=str)}

    def gap(self) -> Finding | None:
        """Where what was read says nothing although everything assumed holds; None where it always says something."""
        pending, self._pending = self._pending, []
        for condition, words in pending:
            if words:
                solver = self.solver(self.z3.Not(condition))
                answer = solver.check()
                if answer == self.z3.unknown:
                    return Finding("undecided", detail=f"z3 cannot tell whether {words}: {solver.reason_unknown()}")
                if answer == self.z3.sat:
                    where = _spelled(self.values(solver.model()))
                    return Finding(
                        "refuted", where, f"the assumptions allow this, and here it is not so that {words}: the claim is not defined"
                    )
            self.known.append(condition)
        return None

    def read(self, node: sp.Basic) -> Any:
        z3, inside = self.z3, self.read
        joints: Mapping[type, Any] = {sp.And: z3.And, sp.Or: z3.Or, sp.Not: z3.Not, sp.Implies: z3.Implies}
        if isinstance(node, BooleanTrue | BooleanFalse):
            return z3.BoolVal(bool(node))
        if isinstance(node, sp.Equivalent):
            first, second = map(inside, node.args)
            return first == second
        for kind, make in joints.items():
            if isinstance(node, kind):
                return make(*map(inside, node.args))
        if isinstance(node, sp.core.relational.Relational):
            left, right = inside(node.lhs), inside(node.rhs)
            compare = {
                sp.Eq: left == right,
                sp.Ne: left != right,
                sp.Ge: left >= right,
                sp.Gt: left > right,
                sp.Le: left <= right,
                sp.Lt: left < right,
            }
            return compare[type(node)]
        if isinstance(node, sp.Symbol):
            return self.names[node]
        if isinstance(node, sp.Rational):
            return z3.Q(int(node.p), int(node.q))
        if isinstance(node, sp.Add):
            return z3.Sum(*map(inside, node.args))
        if isinstance(node, sp.Mul):
            return z3.Product(*map(inside, node.args))
        if isinstance(node, sp.Abs):
            argument = inside(node.args[0])
            return z3.If(argument >= 0, argument, -argument)
        if isinstance(node, sp.Pow) and isinstance(node.exp, sp.Integer):
            base, power = inside(node.base), int(node.exp)
            product = z3.Product(*[base] * abs(power)) if abs(power) > 1 else base
            if power < 0:
                self._ask(base != 0, f"{node.base} is not zero", known=node.base.is_nonzero)
            return product if power > 0 else 1 / product
        if isinstance(node, sp.Pow) and node.exp in (sp.Rational(1, 2), sp.Rational(-1, 2)):
            # The root is a number of its own: not negative, with the argument as its square.
            argument = inside(node.base)
            self._ask(argument >= 0, f"{node.base} is not negative", known=node.base.is_nonnegative)
            root = z3.Real(f"sqrt({node.base})")
            self._pending.append((z3.And(root >= 0, root * root == argument), ""))
            if node.exp < 0:
                self._ask(root != 0, f"sqrt({node.base}) is not zero", known=node.base.is_positive)
            return root if node.exp > 0 else 1 / root
        raise ProofError(f"{node} cannot be told to z3; allowed are polynomials, quotients, roots, absolute values and logic")

    def _ask(self, condition: Any, words: str, *, known: bool | None) -> None:
        """A condition that must follow from what is assumed; where the declared signs of the symbols settle it, z3 is not asked."""
        self._pending.append((condition, "" if known else words))
