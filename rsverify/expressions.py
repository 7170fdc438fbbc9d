"""The project's small language for formulas: arithmetic over named quantities, read through `ast`, never evaluated as code.

Rules ("alpha/r**0.75"), spreads of laws ("1/sqrt(i)") and the formulas of predictions are all written in it. It knows
numbers, names, + - * / **, unary minus, and the functions of FUNCTIONS; everything else is refused with its place.
"""

from __future__ import annotations

import ast
import math
import operator
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import Any

from rsverify.errors import InputError

FUNCTIONS: dict[str, int] = {"sqrt": 1, "log": 1, "exp": 1, "abs": 1, "asin": 1, "erf": 1, "gammafn": 1, "min": 2, "max": 2, "harmonic": 2}
"""Function names and their number of arguments."""

CONSTANTS = {"pi": math.pi}

_MAX_LENGTH = 200_000
_MAX_DEPTH = 400
_MAX_POWER = 1000  # exact arithmetic must not be sent off to compute 9**9**9
_MAX_BITS = 100_000  # of a rational raised to a power: what parsing cannot see, such as (1.0001**999)**999
_BINARY = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Pow: "**"}


class ExpressionError(InputError):
    """A text that is not in the language; `column` is where."""

    def __init__(self, text: str, column: int, problem: str) -> None:
        self.text, self.column, self.problem = text, column, problem
        shown, mark = _window(text, column)
        super().__init__(f"{problem}\n  {shown}\n  {mark}")


@dataclass(frozen=True)
class Expression:
    """A formula of the language, kept as its text.

    Equality and JSON are by text. `names` are the free quantities. Call `evaluate` for numbers, `to_sympy` for algebra.
    """

    text: str

    def __post_init__(self) -> None:
        _ = self.tree

    @cached_property
    def tree(self) -> ast.expr:
        return _remembered(self.text) if isinstance(self.text, str) else _parse(self.text)

    @cached_property
    def names(self) -> frozenset[str]:
        functions = {id(node.func) for node in ast.walk(self.tree) if isinstance(node, ast.Call)}
        found = {node.id for node in ast.walk(self.tree) if isinstance(node, ast.Name) and id(node) not in functions}
        return frozenset(found - CONSTANTS.keys())

    def require_names(self, allowed: Iterable[str]) -> Expression:
        """Itself, or an error that marks the first name outside `allowed`."""
        allowed = set(allowed)
        functions = {id(node.func) for node in ast.walk(self.tree) if isinstance(node, ast.Call)}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Name) and id(node) not in functions and node.id not in allowed | CONSTANTS.keys():
                known = ", ".join(sorted(allowed))
                text = self.text.strip()
                raise ExpressionError(text, place(text, node), f"unknown quantity {node.id!r}: this formula may use {known}")
        return self

    def evaluate(self, values: Mapping[str, Any]) -> Any:
        """The value at floats or numpy arrays given by name; division by zero gives inf or nan in arrays and raises for floats."""
        import numpy as np

        with np.errstate(all="ignore"):
            return _evaluate(self.tree, values, _NUMERIC)

    def to_sympy(self, symbols: Mapping[str, Any]) -> Any:
        """The same formula as a sympy expression over the given symbols, decimals read as exact fractions."""
        import sympy as sp

        def too_large(what: str) -> InputError:
            return InputError(f"expression={_window(self.text, 0)[0]!r}: {what} is too large for exact arithmetic")

        def power(base: Any, exponent: Any) -> Any:
            if exponent.is_number:
                bits = max((max(abs(n.p), n.q).bit_length() for n in base.atoms(sp.Rational)), default=1)
                if not abs(float(exponent)) * bits <= _MAX_BITS:
                    raise too_large("a power")
            return base**exponent

        def gamma(argument: Any) -> Any:
            if argument.is_number and not abs(float(argument)) <= _MAX_POWER:
                raise too_large("a gamma function")
            return sp.gamma(argument)

        functions: dict[str, Callable[..., Any]] = {
            "sqrt": sp.sqrt, "log": sp.log, "exp": sp.exp, "abs": sp.Abs, "asin": sp.asin,
            "erf": sp.erf, "gammafn": gamma, "min": sp.Min, "max": sp.Max, "harmonic": sp.harmonic,
        }  # fmt: skip
        return _evaluate(self.tree, {**symbols, "pi": sp.pi}, (functions, lambda text: sp.Rational(Fraction(text)), power))


def _numpy_functions() -> dict[str, Callable[..., Any]]:
    import numpy as np

    def special(name: str) -> Callable[..., Any]:
        def call(x: Any) -> Any:
            import scipy.special

            return getattr(scipy.special, name)(x)

        return call

    return {
        "sqrt": np.sqrt, "log": np.log, "exp": np.exp, "abs": np.abs, "asin": np.arcsin,
        "erf": special("erf"), "gammafn": special("gamma"), "min": np.minimum, "max": np.maximum, "harmonic": _harmonic,
    }  # fmt: skip


_SHIFT = 32  # from here Euler and Maclaurin's next term is below rounding


def _harmonic(count: Any, decay: Any) -> Any:
    """sum over k = 1..count of k**-decay, and what continues it to counts between whole numbers.

    In words: H(n) = H(n + 32) - sum over j = 1..32 of (n + j)**-s, and beyond 32 Euler and Maclaurin's sum with derivatives to the seventh.
    """
    import numpy as np

    n, s = np.asarray(count, dtype=np.float64), float(decay)
    steps = np.arange(1.0, _SHIFT + 1)

    def smooth(k: Any) -> Any:
        whole = np.log(k) if s == 1 else k ** (1 - s) / (1 - s)
        found, slope = whole + k**-s / 2, s * k ** (-s - 1)
        for order, bernoulli in ((2, -1 / 12), (4, 1 / 720), (6, -1 / 30240), (8, 1 / 1209600)):
            found = found + bernoulli * slope
            slope = slope * (s + order - 1) * (s + order) / k**2
        return found

    ahead = (n[..., None] + steps) ** -s
    return smooth(n + _SHIFT) - smooth(float(_SHIFT)) + (steps**-s - ahead).sum(axis=-1)


_Kit = tuple[dict[str, Callable[..., Any]], Callable[[str], Any], Callable[[Any, Any], Any]]

_NUMERIC: _Kit = (_numpy_functions(), float, operator.pow)


def _evaluate(node: ast.expr, values: Mapping[str, Any], kit: _Kit) -> Any:
    functions, number, power = kit
    if isinstance(node, ast.Constant):
        return number(str(node.value))
    if isinstance(node, ast.Name):
        return values[node.id] if node.id in values else CONSTANTS[node.id]
    if isinstance(node, ast.UnaryOp):
        value = _evaluate(node.operand, values, kit)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp):
        left, right = _evaluate(node.left, values, kit), _evaluate(node.right, values, kit)
        if isinstance(node.op, ast.Add):
            return left + right
        if isinstance(node.op, ast.Sub):
            return left - right
        if isinstance(node.op, ast.Mult):
            return left * right
        return left / right if isinstance(node.op, ast.Div) else power(left, right)
    assert isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    return functions[node.func.id](*(_evaluate(argument, values, kit) for argument in node.args))


@lru_cache(maxsize=1024)
def _remembered(text: str) -> ast.expr:
    """Laws make their formula anew at every draw; nobody changes a tree."""
    return _parse(text)


def _parse(text: str) -> ast.expr:
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"expression={text!r} is empty; expected a formula such as 'alpha/sqrt(r)'")
    if len(text) > _MAX_LENGTH:
        raise InputError(f"expression of {len(text)} characters; at most {_MAX_LENGTH} are read")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about string escapes and the like: strings are refused below
            tree = ast.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        column = _offset(text.strip(), error.lineno or 1) + (error.offset or 1) - 1
        raise ExpressionError(text.strip(), column, f"does not parse: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError):
        raise InputError(f"expression={_window(text, 0)[0]!r} is nested too deep or holds a character that no formula has") from None
    _check(text.strip(), tree, 0)
    return tree


def _check(text: str, node: ast.expr, depth: int) -> None:
    def refuse(problem: str) -> ExpressionError:
        return ExpressionError(text, place(text, node), problem)

    if depth > _MAX_DEPTH:
        raise refuse(f"nested deeper than {_MAX_DEPTH}")
    if isinstance(node, ast.Constant):
        if isinstance(node.value, bool) or not isinstance(node.value, int | float):
            raise refuse(f"{node.value!r} is not a real number")
        if not math.isfinite(float(str(node.value))):
            raise refuse("a number that is not finite")
    elif isinstance(node, ast.Name):
        if node.id in FUNCTIONS:
            raise refuse(f"{node.id} is a function: write {node.id}(...)")
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        _check(text, node.operand, depth + 1)
    elif isinstance(node, ast.BinOp):
        if type(node.op) not in _BINARY:
            cure = "; a power is written **" if isinstance(node.op, ast.BitXor) else ""
            raise refuse(f"operator {type(node.op).__name__} is not in the language (+ - * / **){cure}")
        _check(text, node.left, depth + 1)
        _check(text, node.right, depth + 1)
        if isinstance(node.op, ast.Pow) and _exceeds(node.right, _MAX_POWER):
            raise refuse(f"a power beyond {_MAX_POWER}")
    elif isinstance(node, ast.Call):
        if not isinstance(node.func, ast.Name) or node.func.id not in FUNCTIONS:
            called = node.func.id if isinstance(node.func, ast.Name) else "this"
            raise refuse(f"{called} may not be called; the functions are {', '.join(FUNCTIONS)}")
        if node.keywords or len(node.args) != FUNCTIONS[node.func.id]:
            raise refuse(f"{node.func.id} takes {FUNCTIONS[node.func.id]} argument(s)")
        for argument in node.args:
            _check(text, argument, depth + 1)
    else:
        raise refuse(f"{type(node).__name__} is not in the language (numbers, names, + - * / **, {', '.join(FUNCTIONS)})")


def _exceeds(exponent: ast.expr, bound: float) -> bool:
    """Whether an exponent made of numbers alone is larger than the bound."""
    if any(isinstance(node, ast.Name) and node.id not in FUNCTIONS.keys() | CONSTANTS.keys() for node in ast.walk(exponent)):
        return False
    try:
        return not abs(_evaluate(exponent, {}, _NUMERIC)) <= bound
    except (OverflowError, ZeroDivisionError, TypeError):
        return True


def place(text: str, node: ast.expr) -> int:
    """Where a node stands in its text, in characters (ast counts bytes of a line)."""
    start = _offset(text, node.lineno)
    return start + len(text[start:].encode()[: node.col_offset].decode(errors="ignore"))


def _offset(text: str, line: int) -> int:
    return sum(len(before) + 1 for before in text.split("\n")[: line - 1])


def _window(text: str, column: int) -> tuple[str, str]:
    """The part of a text around a column, and a line that marks the place."""
    start = max(0, column - 60)
    return text[start : start + 120].replace("\n", " "), " " * (column - start) + "^"
