"""The grammar of formulas: all that is in it, all that is refused with its place, and that nothing is ever executed."""

from __future__ import annotations

import contextlib
import math
import time

import numpy as np
import pytest
import sympy as sp
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import special

from rsverify.errors import InputError
from rsverify.expressions import FUNCTIONS, Expression, ExpressionError

VALUES = {"r": 7.0, "alpha": 20.0, "d_in": 48.0}
SYMBOLS = {name: sp.Symbol(name, positive=True) for name in VALUES}


def marked(error: ExpressionError) -> str:
    """The text from the marked place on, as the message shows it."""
    _, *_, shown, mark = str(error).splitlines()
    assert mark.strip() == "^"
    return shown[mark.index("^") :]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("0.75", 0.75),
        ("1e-3", 1e-3),
        ("r", 7),
        ("-r", -7),
        ("+r", 7),
        ("r + alpha", 27),
        ("alpha - r", 13),
        ("alpha*r", 140),
        ("alpha/r", 20 / 7),
        ("r**2", 49),
        ("r**-1", 1 / 7),
        ("-r**2", -49),
        ("2**3**2", 512),
        ("r - 1 - 2", 4),
        ("alpha/r/2", 10 / 7),
        ("(r + 1)*2", 16),
        ("pi", math.pi),
        ("sqrt(r)", math.sqrt(7)),
        ("log(r)", math.log(7)),
        ("exp(-r)", math.exp(-7)),
        ("abs(-r)", 7),
        ("asin(1/r)", math.asin(1 / 7)),
        ("erf(1/2)", math.erf(0.5)),
        ("gammafn(r)", 720),
        ("min(r, alpha)", 7),
        ("max(r, alpha)", 20),
        ("  alpha/r**(1/4)  ", 20 / 7**0.25),
    ],
)
def test_everything_in_the_grammar_has_its_value(text: str, value: float) -> None:
    expression = Expression(text)
    assert expression.evaluate(VALUES) == pytest.approx(value, rel=1e-14)
    assert float(expression.to_sympy(SYMBOLS).subs({SYMBOLS[n]: v for n, v in VALUES.items()})) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "problem", "place"),
    [
        ("alpha^r", "a power is written **", "alpha^r"),
        ("alpha // r", "FloorDiv", "alpha // r"),
        ("1 + alpha % r", "Mod", "alpha % r"),
        ("r < 2", "Compare", "r < 2"),
        ("1 + (r if r else 2)", "IfExp", "r if r else 2)"),
        ("[r]", "List", "[r]"),
        ("r[0]", "Subscript", "r[0]"),
        ("2 * r.real", "Attribute", "r.real"),
        ("1 + foo(r)", "foo may not be called", "foo(r)"),
        ("eval('1')", "eval may not", "eval"),
        ("__import__('os')", "__import__ may not", "__import__"),
        ("r + (lambda: 1)()", "this may not be called", "(lambda"),
        ("'text'", "not a real number", "'text'"),
        ("1 + True", "not a real number", "True"),
        ("2j*r", "not a real number", "2j"),
        ("None", "not a real number", "None"),
        ("1e400", "not finite", "1e400"),
        ("1 + " + "9" * 400, "not finite", "999"),
        ("sqrt", "write sqrt(...)", "sqrt"),
        ("sqrt()", "takes 1", "sqrt()"),
        ("1 + min(r)", "takes 2", "min(r)"),
        ("not r", "UnaryOp", "not r"),
        ("sqrt(x=r)", "takes 1", "sqrt(x=r)"),
        ("min(*r)", "takes 2", "min(*r)"),
        ("~r", "not in the language", "~r"),
        ("(x := 1)", "NamedExpr", "x := 1)"),
        ("r and 1", "BoolOp", "r and 1"),
        ("f'{r}'", "JoinedStr", "f'{r}'"),
        ("9**9**9", "beyond 1000", "9**9**9"),
        ("1 + 2**-5000", "beyond 1000", "2**-5000"),
        ("2**(1/0)", "beyond 1000", "2**(1/0)"),
        ("2**exp(100)", "beyond 1000", "2**exp"),
        ("2**min(10**9, 10**10)", "beyond 1000", "2**min"),
        ("2**(pi*1e6)", "beyond 1000", "2**(pi"),
        ("alpha/", "does not parse", ""),
        ("alpha r", "does not parse", "r"),
        ("x = 1", "does not parse", ""),
        ("import os", "does not parse", "import os"),
        ("1; 2", "does not parse", "; 2"),
    ],
)
def test_everything_else_is_refused_with_its_place(text: str, problem: str, place: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        Expression(text)
    assert problem in str(caught.value)
    assert marked(caught.value).startswith(place)


@pytest.mark.parametrize(
    "text", ["", "   ", "\n", "r\x00", "-" * 10_000 + "1", "(" * 5_000 + "1" + ")" * 5_000, "1+" * 5_000 + "1", "1" * 300_000, "\ud800"]
)
def test_what_is_no_formula_at_all_is_refused_quickly(text: str) -> None:
    began = time.monotonic()
    with pytest.raises(InputError):
        Expression(text)
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("value", [None, 3, b"r", ["r"]])
def test_what_is_no_text_is_refused(value: object) -> None:
    with pytest.raises(InputError, match="expected a formula"):
        Expression(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("  alpha + q", "q"),
        ("α*0 + q*r", "α*0"),
        ("(alpha\n + q)", "q)"),
        ("alpha*alpha + alpha + q + r", "q + r"),
        ("(r*'é' + 1)*1", "'é'"),
    ],
)
def test_the_mark_counts_characters_of_the_shown_text(text: str, place: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        Expression(text).require_names({"alpha", "r"})
    assert marked(caught.value).startswith(place)


def test_a_place_far_to_the_right_is_still_shown() -> None:
    with pytest.raises(ExpressionError) as caught:
        Expression(" + ".join(["r"] * 200) + " + foo(r) + 1")
    assert marked(caught.value).startswith("foo(r)")


def test_a_mark_after_letters_of_two_bytes() -> None:
    with pytest.raises(ExpressionError) as caught:
        Expression("αβγ + foo(r)")
    assert marked(caught.value).startswith("foo(r)")


def test_names_leave_out_functions_and_constants() -> None:
    assert Expression("alpha*pi/sqrt(r) + max(d_in, 2)").names == {"alpha", "r", "d_in"}


def test_unknown_names_are_named_with_what_is_known() -> None:
    with pytest.raises(ExpressionError, match="unknown quantity 'rank': this formula may use alpha, r"):
        Expression("alpha/rank").require_names({"r", "alpha"})


@pytest.mark.parametrize(
    "text",
    [
        "((9**999)**999)**999",
        "(1.0000001**999)**999",
        "(((1.1*r)**999)**999)**999",
        "2**((r/r)*999*999*999)",
        "gammafn(10**9)",
        "gammafn(r/r*10**9)",
    ],
)
def test_exact_arithmetic_is_never_sent_off_to_compute_the_impossible(text: str) -> None:
    began = time.monotonic()
    with pytest.raises(InputError, match="too large for exact arithmetic"):
        Expression(text).to_sympy(SYMBOLS)
    assert time.monotonic() - began < 2


def test_nothing_is_executed(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = tmp_path / "executed"
    monkeypatch.setitem(__builtins__ if isinstance(__builtins__, dict) else vars(__builtins__), "spy", lambda *_: trace.touch())
    for text in (
        "spy()",
        "spy(r)",
        "[spy() for _ in (1,)]",
        "(lambda: spy())()",
        f"open({str(trace)!r}, 'w')",
        "f'{spy()}'",
        "r.__class__",
    ):
        with pytest.raises(InputError):
            Expression(text)
    assert not trace.exists()


def test_division_by_zero_raises_for_floats_and_fills_arrays() -> None:
    with pytest.raises(ZeroDivisionError):
        Expression("1/(r - 7)").evaluate(VALUES)
    assert Expression("1/(r - 7)").evaluate({"r": np.array([7.0, 8.0])}).tolist() == [math.inf, 1.0]


def test_arrays_go_through_entry_by_entry() -> None:
    r = np.array([1.0, 4.0, 9.0])
    np.testing.assert_allclose(
        Expression("max(2, sqrt(r)) + gammafn(r/2)").evaluate({"r": r}), np.maximum(2, np.sqrt(r)) + special.gamma(r / 2)
    )


def test_decimals_are_exact_in_algebra() -> None:
    assert Expression("0.1*r + 1e-3").to_sympy(SYMBOLS) == SYMBOLS["r"] / 10 + sp.Rational(1, 1000)


def test_equality_is_by_text() -> None:
    assert Expression("1/r") == Expression("1/r") != Expression("1 / r")
    assert hash(Expression("1/r")) == hash(Expression("1/r"))


leaves = st.one_of(
    st.sampled_from(sorted(VALUES)),
    st.integers(0, 50).map(str),
    st.decimals(min_value="0.001", max_value="50", places=3).map(str),
    st.just("pi"),
)
formulas = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        st.tuples(inner, st.sampled_from(["2", "-1", "0.5", "(1/4)", "-0.5"])).map(lambda t: f"({t[0]})**{t[1]}"),
        inner.map(lambda text: f"-({text})"),
        st.tuples(st.sampled_from(["sqrt", "log", "abs", "erf"]), inner).map(lambda t: f"{t[0]}({t[1]})"),
        st.tuples(st.sampled_from(["min", "max"]), inner, inner).map(lambda t: f"{t[0]}({t[1]}, {t[2]})"),
    ),
    max_leaves=6,
)


@given(formulas)
@settings(max_examples=60)
def test_numbers_and_algebra_agree(text: str) -> None:
    expression = Expression(text)
    try:
        value = expression.evaluate(VALUES)
    except (ArithmeticError, ValueError):
        assume(False)
    assume(not isinstance(value, complex) and math.isfinite(value))
    try:
        exact = expression.to_sympy({name: sp.Rational(int(number)) for name, number in VALUES.items()})
    except TypeError:  # sympy refuses to order complex numbers in Min and Max
        assume(False)
    assume(exact.is_finite and exact.is_real)
    exact = sp.N(exact, 30)
    # A difference of nearly equal terms loses digits: the bound follows the largest term that such a formula can hold.
    assert float(value) == pytest.approx(float(exact), rel=1e-9, abs=1e-9)


@given(st.text(alphabet="r alph+-*/().,0123456789eE_^[]'\"\n\\", max_size=40))
def test_any_text_is_read_or_refused_but_nothing_else(text: str) -> None:
    with contextlib.suppress(InputError):
        Expression(text).require_names({"r", "alpha"})


def test_every_function_is_known_to_both_readers() -> None:
    for name, count in FUNCTIONS.items():
        text = f"{name}({', '.join(['1/2', '1/3'][:count])})"
        assert Expression(text).evaluate({}) == pytest.approx(float(Expression(text).to_sympy({})), rel=1e-14)
