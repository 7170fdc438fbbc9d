"""Inequalities over the reals, decided by z3: the negation has no solution, or the solution is the counter-example."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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
        given: what is assumed of the symbols, beside that those declared positive are.
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
        positive = [f"{symbol} > 0" for symbol in symbols_of(self.claim, *self.given) if symbol.is_positive]
        conditions = ", ".join([*map(str, self.given), *positive])
        return f"{self.claim}{f', where {conditions}' if conditions else ''}"

    def run(self) -> Finding:
        try:
            import z3
        except ImportError:
            return Finding("skipped", detail="z3 is not installed: pip install 'rsverify[proofs]'")
        solver = z3.Solver()
        solver.set("timeout", MILLISECONDS)
        names: dict[sp.Symbol, Any] = {}
        facts: list[Any] = []
        for condition in self.given:
            solver.add(_translate(condition, z3, names, facts))
        solver.add(z3.Not(_translate(self.claim, z3, names, facts)))
        solver.add(*facts)
        answer = solver.check()
        if answer == z3.unsat:
            return Finding("proved", detail="the negation has no solution")
        if answer == z3.unknown:
            return Finding("undecided", detail=f"z3 gave up: {solver.reason_unknown()}")
        model = solver.model()
        values = {symbol: model.evaluate(names[symbol], model_completion=True) for symbol in sorted(names, key=str)}
        return Finding("refuted", ", ".join(f"{symbol} = {_decimal(value)}" for symbol, value in values.items()), self._again(values))

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

        solver, facts = z3.Solver(), []
        names: dict[sp.Symbol, Any] = {}
        for condition in self.given:
            solver.add(_translate(condition, z3, names, facts))
        solver.add(*facts)
        return solver.check() == z3.sat

    def twins(self) -> tuple[Twin, ...]:
        return tuple(Twin(kind, Inequality(claim, self.given, (), self.scope_text)) for kind, claim in self.corrupted)


def _decimal(value: Any) -> str:
    return value.as_decimal(6) if hasattr(value, "as_decimal") else str(value)


def _translate(node: sp.Basic, z3: Any, names: dict[sp.Symbol, Any], facts: list[Any]) -> Any:
    def inside(part: sp.Basic) -> Any:
        return _translate(part, z3, names, facts)

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
        if node not in names:
            if str(node) in map(str, names):
                raise ProofError(f"two different symbols are called {node}")
            names[node] = z3.Real(str(node))
            facts += [names[node] > 0] if node.is_positive else []
        return names[node]
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
        facts += [base != 0] if power < 0 else []  # z3 gives a quotient by zero a value of its choice
        return product if power > 0 else 1 / product
    if isinstance(node, sp.Pow) and node.exp in (sp.Rational(1, 2), sp.Rational(-1, 2)):
        # The root is a number of its own: not negative, with the argument as its square.
        argument = inside(node.base)
        root = z3.Real(f"sqrt({node.base})")
        facts += [root >= 0, root * root == argument, *([root != 0] if node.exp < 0 else [])]
        return root if node.exp > 0 else 1 / root
    raise ProofError(f"{node} cannot be told to z3; allowed are polynomials, quotients, roots, absolute values and logic")
