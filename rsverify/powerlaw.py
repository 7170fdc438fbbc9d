"""The leading power of a formula in one of its quantities, read off its structure."""

from __future__ import annotations

import ast
from fractions import Fraction
from typing import Any

from rsverify.errors import InputError, RuleError
from rsverify.expressions import Expression, place

NAMED_RULES = {
    "lora": "alpha/r",
    "rslora": "alpha/sqrt(r)",
    "constant": "alpha",
    "quarter": "alpha/r**(1/4)",
    "square": "alpha/r**2",
}
"""The scaling rules that have a name, as texts of the grammar."""


SMALLEST, LARGEST = 1e-30, 1e30
"""Of a factor, spread or alpha that is computed with: an update holds its square, a variance eighth powers, and these must be floats."""
_TRIED = (*range(1, 257), *(2**k for k in range(9, 41)))
"""Ranks at which a rule is tried before its power of r is read."""


def refuse_unusable(expression: Expression, *, alpha: float = 20.0) -> None:
    """Refuse a rule that is zero, negative, complex or undefined at some rank: it scales nothing, whatever its power of r.

    Raises: RuleError with the first such rank.
    """
    import numpy as np

    ranks = np.array(_TRIED, dtype=np.float64)
    try:
        values: Any = np.broadcast_to(np.asarray(expression.evaluate({"r": ranks, "alpha": alpha})), ranks.shape)
    except (ArithmeticError, ValueError):
        values = np.full(ranks.shape, np.nan)
    bad = ~((values.real > 0) & np.isfinite(values.real) & (values.imag == 0))
    for r in (_TRIED[at] for at in np.flatnonzero(bad)):
        if problem := _problem(expression, r, alpha):
            raise RuleError(
                f"rule={expression.text!r} {problem} at r={r}, alpha={alpha:g}; expected a positive finite number at every rank"
            )


def _problem(expression: Expression, r: int, alpha: float) -> str:
    """What is wrong with a value at a rank, told exactly: floats alone may have run out of range; empty where nothing is."""
    import sympy as sp

    try:
        value = expression.to_sympy({"r": sp.Integer(r), "alpha": sp.nsimplify(alpha, rational=True)})
    except InputError:
        return ""  # too large to say: refused where its numbers are asked for
    if value.has(sp.zoo, sp.nan, sp.oo, -sp.oo):
        return "divides by zero or is not finite"
    if value.is_zero:
        return "is zero"
    if value.is_real is False:
        return "is complex"
    return "is negative" if value.is_negative else ""


def leading_power(expression: Expression, name: str) -> Fraction:
    """The e for which the formula grows like name**e as name grows, all other quantities positive and fixed.

    Raises: RuleError where there is no power law, or where a difference of equal powers hides it.
    """
    return _power(expression.text, expression.tree, name)


def _power(text: str, node: ast.expr, name: str) -> Fraction:
    def refuse(problem: str) -> RuleError:
        return RuleError(f"formula {text!r} has no power law in {name}: {problem}\n  {text.strip()}\n  {' ' * place(text.strip(), node)}^")

    if not any(isinstance(part, ast.Name) and part.id == name for part in ast.walk(node)):
        return Fraction(0)
    if isinstance(node, ast.Name):
        return Fraction(1)
    if isinstance(node, ast.UnaryOp):
        return _power(text, node.operand, name)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        inside = [_power(text, argument, name) for argument in node.args]
        if node.func.id in ("sqrt", "abs"):
            return inside[0] / (2 if node.func.id == "sqrt" else 1)
        if node.func.id in ("min", "max"):
            if any(_may_be_negative(argument) for argument in node.args):
                raise refuse(f"{node.func.id} of a quantity that may be negative")
            return min(inside) if node.func.id == "min" else max(inside)
        raise refuse(f"{node.func.id} of a growing quantity is not a power")
    assert isinstance(node, ast.BinOp)
    left = _power(text, node.left, name)
    if isinstance(node.op, ast.Pow):
        if any(isinstance(part, ast.Name) for part in ast.walk(node.right)):
            raise refuse("the exponent must be a number")
        return left * _number(node.right)
    right = _power(text, node.right, name)
    if isinstance(node.op, ast.Mult):
        return left + right
    if isinstance(node.op, ast.Div):
        return left - right
    cancels = isinstance(node.op, ast.Sub) or _may_be_negative(node.left) or _may_be_negative(node.right)
    if cancels and left == right:
        raise refuse("a difference of equal powers; simplify it first")
    return max(left, right)


def _may_be_negative(node: ast.expr) -> bool:
    """Whether a minus sign stands anywhere outside exponents."""
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, ast.USub) or _may_be_negative(node.operand)
    if isinstance(node, ast.Call):
        return any(_may_be_negative(argument) for argument in node.args)
    if isinstance(node, ast.BinOp):
        parts = [node.left] if isinstance(node.op, ast.Pow) else [node.left, node.right]
        return isinstance(node.op, ast.Sub) or any(_may_be_negative(part) for part in parts)
    return False


def _number(node: ast.expr) -> Fraction:
    if isinstance(node, ast.Constant):
        return Fraction(str(node.value))
    if isinstance(node, ast.UnaryOp):
        return -_number(node.operand) if isinstance(node.op, ast.USub) else _number(node.operand)
    if isinstance(node, ast.BinOp):
        left, right = _number(node.left), _number(node.right)
        if isinstance(node.op, ast.Div):
            return left / right
        if isinstance(node.op, ast.Mult):
            return left * right
        if isinstance(node.op, ast.Add | ast.Sub):
            return left + right if isinstance(node.op, ast.Add) else left - right
    raise RuleError("an exponent must be made of numbers and + - * /")
