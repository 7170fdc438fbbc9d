"""A wrong rule is found, at the least rank at which it is wrong; a right one passes."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import pytest

from rsverify.definitions.rules import ScalingRule
from rsverify.errors import InputError, RuleError
from rsverify.testing import statements
from rsverify.testing.assertions import assert_linear_in_alpha, assert_monotone, assert_rank_stable, assert_scale
from rsverify.testing.brokenrules import FAULTS, BrokenRule
from rsverify.testing.rules import ALPHAS, BEYOND, DENSE

RIGHT = ("alpha/sqrt(r)", "alpha/r", "alpha/r**0.75")
BROKEN = [BrokenRule(right, fault, size) for k, right in enumerate(RIGHT) for fault in FAULTS for size in (1 + k, 4)]


@pytest.fixture(autouse=True)
def unheard(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is refuted here on purpose does not go into the run's summary."""
    monkeypatch.setattr(statements, "listeners", [])


def least_wrong(rule: Callable[[int, float], float], right: str) -> int:
    """By a loop of its own: the first rank at which the two differ at an alpha that is looked at."""
    expected = ScalingRule(right)
    return next(r for r in range(1, BEYOND[-1]) if any(not math.isclose(rule(r, a), expected.gamma(r, a), rel_tol=1e-9) for a in ALPHAS))


@pytest.mark.parametrize("rule", BROKEN, ids=lambda rule: rule.__name__)
def test_every_broken_rule_is_found_at_its_least_rank(rule: BrokenRule) -> None:
    with pytest.raises(AssertionError, match="does not hold: rule") as caught:
        assert_scale(rule, rule.right)
    match = re.search(r"at r=(\d+), alpha=", str(caught.value))
    assert match and int(match[1]) == least_wrong(rule, rule.right)


def test_there_are_thirty_of_eight_kinds() -> None:
    assert len(BROKEN) >= 30 and len(FAULTS) == 8


@pytest.mark.parametrize("c", [1.0, 0.5, 3.0, 7.25, 100.0])
@pytest.mark.parametrize("p", [0.0, 0.25, 0.5, 2 / 3, 1.0, 1.5])
def test_right_rules_pass(p: float, c: float) -> None:
    def rule(r: int, alpha: float) -> float:
        return alpha * c / r**p

    assert_scale(rule, f"{c!r}*alpha*r**(-{p!r})")
    assert_linear_in_alpha(rule)
    assert_monotone(rule)


def test_a_rule_that_is_wrong_at_large_ranks_only_is_found_between_those_looked_at() -> None:
    with pytest.raises(AssertionError, match=r"at r=3501, alpha=20.5 it is"):
        assert_scale(lambda r, alpha: alpha / r if r < 3500 else alpha / 3500, "alpha/r")
    assert DENSE < 3501 < BEYOND[-1] and 3501 not in BEYOND


def test_a_rule_right_at_powers_of_two_alone_is_not_called_stable() -> None:
    with pytest.raises(AssertionError, match="it goes up and down, .* at r=3, .* at r=8, .* at r=50"):
        assert_rank_stable("lora", BrokenRule("alpha/sqrt(r)", "right at powers of two"), quantity="update", optimizer="sgd")


def test_alpha_and_direction_have_assertions_of_their_own() -> None:
    with pytest.raises(AssertionError, match="linear in alpha: at r=1, .*alpha is ignored"):
        assert_linear_in_alpha(BrokenRule("alpha/r", "deaf to alpha"))
    with pytest.raises(AssertionError, match="falling in the rank: at r=3, .* at r=4"):
        assert_monotone(BrokenRule("alpha/sqrt(r)", "right at powers of two"))
    assert_monotone("alpha*sqrt(r)", direction="rising")
    with pytest.raises(AssertionError, match="rising in the rank: at r=1"):
        assert_monotone("alpha/r", direction="rising")
    assert_scale(lambda r, alpha, d_in, d_out: alpha / r * d_in / 24, "alpha/r")


def test_what_cannot_be_meant_is_refused() -> None:
    with pytest.raises(RuleError, match="KeyError: 1 "):
        assert_scale(lambda r, alpha: {8: 1.0}[r], "alpha/r")
    assert_scale(lambda r, alpha: {8: alpha / 8}[r], "alpha/r", ranks=[8])
    with pytest.raises(InputError, match="alphas="):
        assert_scale("alpha/r", "alpha/r", alphas=[])
    with pytest.raises(InputError, match="direction='up'"):
        assert_monotone("alpha/r", direction="up")  # type: ignore[arg-type]
