"""Scaling rules: their values, their powers, and the refusal of every rule that has no use."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsverify.definitions.rules import ALPHA, ScalingRule, as_rule, rules
from rsverify.errors import RuleError, UnknownName
from rsverify.expressions import Expression
from rsverify.powerlaw import leading_power


def test_the_two_rules_of_the_paper() -> None:
    assert as_rule("lora").at([4, 16]) == [ALPHA / 4, ALPHA / 16]
    assert as_rule("rslora").at([4, 16], alpha=8) == [4, 2]
    assert (as_rule("lora").text, as_rule("rslora").text) == ("alpha/r", "alpha/sqrt(r)")


@pytest.mark.parametrize(
    ("text", "r", "problem"),
    [
        ("alpha/(r - 4)", 4, "divides by zero"),
        ("alpha*(4 - r)", 8, "is negative (-80)"),
        ("alpha*(r - 8)", 8, "is zero (0)"),
        ("(4 - r)**0.5", 8, "is complex"),
        ("exp(r)*alpha", 10_000, "is not finite (inf)"),
        ("alpha/log(r)", 1, "is not finite (inf)"),
        ("log(0*r)", 4, "is not finite (-inf)"),
        ("0/sqrt(r - 4)", 4, "is not finite (nan)"),
        ("r**400", 10**9, "cannot be computed"),
        ("sqrt(4 - r)", 8, "is not finite (nan)"),
    ],
)
def test_a_rule_without_a_usable_value_at_a_rank_is_refused(text: str, r: int, problem: str) -> None:
    with pytest.raises(RuleError) as caught:
        ScalingRule(text).at([r])
    message = str(caught.value)
    assert problem in message and f"at r={r}, alpha=20" in message and repr(text) in message


@pytest.mark.parametrize(
    "text",
    [
        "",
        "alpha/",
        "import os",
        "__import__('os').getcwd()",
        "alpha.real",
        "open('x')",
        "alpha/rank",
        "exec('1')",
        "alpha^r",
        "alpha/r; r",
        "(lambda: 1)()",
        "9**9**9",
        "[alpha][0]",
        "alpha if r else 1",
    ],
)
def test_a_text_that_is_no_rule_is_refused_before_any_rank(text: str) -> None:
    with pytest.raises(RuleError, match="is not a scaling rule"):
        ScalingRule(text)


def test_a_rule_that_is_no_text_is_refused() -> None:
    with pytest.raises(RuleError, match="is not a scaling rule"):
        ScalingRule(3.0)  # type: ignore[arg-type]


def test_unknown_rule_names_suggest_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"rule='rslorra' is not known; did you mean 'rslora'"):
        as_rule("rslorra")
    assert as_rule("alpha").text == "alpha" and as_rule("constant").text == "alpha"


def test_callables_are_rules() -> None:
    def by_hand(r: float, alpha: float) -> float:
        return alpha / math.sqrt(r)

    rule = as_rule(by_hand)
    assert rule.text == "by_hand" and rule.at([4, 16]) == as_rule("rslora").at([4, 16])
    assert ScalingRule(lambda r, alpha: np.float32(1)).at([2]) == [1.0]
    assert ScalingRule(lambda r, alpha: 1).text == "callable"
    assert as_rule(rule) is rule
    with pytest.raises(RuleError, match="is a callable: its power of r cannot be read off"):
        rule.power


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (lambda r, alpha: 1 / (r - 4), "divides by zero"),
        (lambda r, alpha: -1, "negative"),
        (lambda r, alpha: 0, "zero"),
        (lambda r, alpha: 1j, "complex"),
        (lambda r, alpha: math.nan, "not finite"),
        (lambda r, alpha: math.inf, "not finite"),
        (lambda r, alpha: None, "returns NoneType, not a number"),
        (lambda r, alpha: "x", "returns str, not a number"),
        (lambda r: 1, "cannot be computed"),
        (lambda r, alpha: 10**400, "too large for a float"),
        (lambda r, alpha: math.sqrt(-1), "cannot be computed"),
    ],
)
def test_callables_of_no_use_are_refused(function, problem: str) -> None:
    with pytest.raises(RuleError) as caught:
        ScalingRule(function).gamma(4)
    assert problem in str(caught.value) and "at r=4" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "power"),
    [
        ("alpha/r", "1"),
        ("alpha/sqrt(r)", "1/2"),
        ("alpha", "0"),
        ("alpha/r**0.75", "3/4"),
        ("alpha/r**(1/3)", "1/3"),
        ("alpha*r**2", "-2"),
        ("alpha/(r + 1)", "1"),
        ("alpha/(r*sqrt(r))", "3/2"),
        ("alpha*sqrt(r)/r", "1/2"),
        ("1/sqrt(r) + 1/r", "1/2"),
        ("alpha/(r**2 - r + 1)", "2"),
        ("alpha/max(r, 8)", "1"),
        ("alpha/min(r, 8)", "0"),
        ("alpha*abs(r)**-1", "1"),
        ("(alpha/r)**(1/2)", "1/2"),
        ("-(-alpha/r)", "1"),
        ("alpha/r**(2*3/4 - 1)", "1/2"),
        ("alpha*r**-(1/2 + 1)", "3/2"),
        ("log(alpha)/r", "1"),
        ("2**alpha/r", "1"),
        ("1/r + 1/r", "1"),
        ("r**-1 + 2*r**-1", "1"),
    ],
)
def test_the_power_of_a_rule_is_exact(text: str, power: str) -> None:
    assert ScalingRule(text).power == Fraction(power)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("alpha/log(r + 1)", "log of a growing quantity"),
        ("exp(-r)*alpha", "exp of a growing"),
        ("alpha/(r - r + 1)", "difference of equal powers"),
        ("alpha/(r + (-r) + 1)", "difference of equal powers"),
        ("r**r", "exponent must be a number"),
        ("alpha**r", "exponent must be a number"),
        ("r**alpha", "exponent must be a number"),
        ("max(-r, 1)", "may be negative"),
        ("alpha/r + (1 - 2)/r", "difference of equal"),
    ],
)
def test_a_rule_without_a_power_law_says_so(text: str, problem: str) -> None:
    with pytest.raises(RuleError) as caught:
        ScalingRule(text).power
    assert problem in str(caught.value) and str(caught.value).splitlines()[-1].strip() == "^"


@given(
    st.fractions(min_value=-3, max_value=3, max_denominator=12),
    st.fractions(min_value=-3, max_value=3, max_denominator=12),
    st.sampled_from(
        ["alpha*r**({0})*r**({1})", "alpha*r**({0})/r**(-({1}))", "(r**({0}) * sqrt(r**(2*({1}))))", "(r + 3)**({0})*(2*r)**({1})"]
    ),
)
def test_powers_add_as_they_should(a: Fraction, b: Fraction, shape: str) -> None:
    assert leading_power(Expression(shape.format(a, b)), "r") == a + b


@given(st.sampled_from(["alpha/r**{0}", "alpha/(r**{0} + r**({0}/2))", "alpha*sqrt(r)/(r + r**{0})"]), st.integers(1, 4))
def test_the_power_is_the_slope_far_out(shape: str, p: int) -> None:
    rule = ScalingRule(shape.format(p))
    lo, hi = rule.gamma(2**80), rule.gamma(2**90)
    assert -math.log(hi / lo) / math.log(2**10) == pytest.approx(float(rule.power), abs=0.15)


def test_named_rules_have_texts_that_parse() -> None:
    assert {name: rule.power for name, rule in rules().items()} == {
        "lora": 1,
        "rslora": Fraction(1, 2),
        "constant": 0,
        "quarter": Fraction(1, 4),
        "square": 2,
    }


def test_a_rule_is_called_as_the_function_it_is():
    rule = ScalingRule("alpha/r")
    assert rule(16, 32.0) == 2.0 and rule(4) == 5.0
    again = ScalingRule(rule)
    assert again == rule and again.expression is not None
    mine = ScalingRule(lambda r, alpha: alpha / r)
    assert ScalingRule(mine).function is mine.function


def test_a_callable_is_not_derived_and_not_asked_at_ranks_that_nobody_named():
    asked = []

    def rule(r: int, alpha: float) -> float:
        asked.append(r)
        return {8: 2.5, 12: 2.0}[r]

    with pytest.raises(RuleError, match="its power of r cannot be read off.*give the rule as text"):
        _ = ScalingRule(rule).power
    assert asked == []
    assert ScalingRule(rule).at([8, 12]) == [2.5, 2.0] and all(type(r) is int for r in asked)
    with pytest.raises(RuleError, match=r"r=16, alpha=20: KeyError: 16 \(raised by the rule itself\)") as caught:
        ScalingRule(rule).gamma(16)
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_rule_may_need_the_layers_widths():
    rule = ScalingRule(lambda r, alpha, d_in, d_out: alpha / (r * d_in) ** 0.5)
    assert rule.needs_widths and rule.bound(4, 6).gamma(4, 8.0) == 2.0
    with pytest.raises(RuleError, match="needs the layer's widths"):
        rule.gamma(4)
    assert not ScalingRule(lambda r, alpha: alpha / r).needs_widths and ScalingRule("alpha/r").bound(4, 6).text == "alpha/r"
