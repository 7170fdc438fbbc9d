"""Every assertion is seen to pass, to fail and to be unable to tell; messages leave nothing of the claim out."""

from __future__ import annotations

from fractions import Fraction

import pytest

import rsverify as rv
from rsverify.errors import InputError, UnknownName
from rsverify.testing import statements
from rsverify.testing.assertions import (
    assert_collapses,
    assert_explodes,
    assert_exponent,
    assert_identity_at_init,
    assert_merge_equivalent,
    assert_rank_stable,
)
from rsverify.testing.mutants import mutants
from rsverify.testing.mutants.reference import LORA
from rsverify.testing.statements import Inconclusive

SGD = {"quantity": "update", "optimizer": "sgd"}
ADAMW = {"quantity": "update", "optimizer": "adamw"}
POOR = rv.Budget(draws=170)


@pytest.fixture
def heard(monkeypatch):
    told: list[statements.Statement] = []
    monkeypatch.setattr(statements, "listeners", [told.append])
    return told


@pytest.mark.statistical
def test_the_same_rule_is_stable_for_one_optimizer_and_not_for_the_next(heard) -> None:
    assert_rank_stable("lora", "alpha/sqrt(r)", **SGD)
    assert_collapses("lora", "alpha/r", **SGD)
    assert_rank_stable("lora", "alpha/r", **ADAMW)
    assert_explodes("lora", "alpha/sqrt(r)", **ADAMW)
    assert [statement.answer for statement in heard] == ["confirmed"] * 4 and {statement.rate for statement in heard} == {1e-6}


@pytest.mark.statistical
@pytest.mark.parametrize(
    ("assertion", "rule", "claim", "said"),
    [
        (assert_rank_stable, "alpha/r", SGD, "found collapses"),
        (assert_rank_stable, "alpha/sqrt(r)", ADAMW, "found explodes"),
        (assert_collapses, "alpha/sqrt(r)", SGD, "found stable"),
        (assert_explodes, "alpha/r", ADAMW, "found stable"),
        (assert_rank_stable, lambda r, alpha: alpha / r, SGD, "under callable: stable; found collapses"),
    ],
)
def test_what_does_not_hold_fails_and_names_its_claim(heard, assertion, rule, claim, said) -> None:
    with pytest.raises(AssertionError) as caught:
        assertion("lora", rule, **claim)
    message = str(caught.value)
    assert not isinstance(caught.value, Inconclusive) and said in message
    for word in ("update", "rms", "aligned probe", "rank regime", "1 step of", claim["optimizer"], "lora", "B=zero", "simulated exponent"):
        assert word in message
    assert heard[-1].answer == "refuted"


@pytest.mark.statistical
def test_exponents_pass_and_fail() -> None:
    assert_exponent("lora", "alpha/r", exponent=-1, **SGD)
    assert_exponent("lora", "alpha/r**(3/4)", exponent=Fraction(-1, 2), **SGD)
    assert_exponent("lora", "alpha/sqrt(r)", exponent=0, quantity="gradient_norm", statistic="frobenius", steps=0, optimizer="sgd")
    assert_exponent("lora", lambda r, alpha: alpha / r, exponent=-1, **SGD)
    with pytest.raises(AssertionError, match=r"exponent -0.5 \+- 0.1; found collapses"):
        assert_exponent("lora", "alpha/r", exponent=-0.5, **SGD)
    with pytest.raises(AssertionError, match="vanishes identically"):
        assert_exponent("lora", "alpha/r", exponent=0, quantity="output", steps=0, optimizer="sgd")
    with pytest.raises(AssertionError, match="vanishes identically"):
        assert_rank_stable("lora", "alpha/r", quantity="output", steps=0, optimizer="sgd")


@pytest.mark.statistical
def test_what_cannot_be_told_fails_with_its_price_unless_allowed(heard) -> None:
    with pytest.raises(Inconclusive, match=r"cannot tell whether update .* some .* times the .* draws would settle it: allow that by"):
        assert_rank_stable("lora", "alpha/sqrt(r)", budget=POOR, **SGD)
    row = assert_rank_stable("lora", "alpha/sqrt(r)", budget=POOR, allow_inconclusive=True, **SGD)
    assert row.agreement == "inconclusive" and [statement.answer for statement in heard] == ["inconclusive"] * 2
    with pytest.raises(Inconclusive) as caught:
        assert_rank_stable("lora", "alpha/r**0.55", **SGD)
    assert "more draws would not settle it" in caught.value.price


@pytest.mark.statistical
def test_the_price_is_enough() -> None:
    """Paying what the message asks for gives an answer: that is what a price is."""
    with pytest.raises(Inconclusive) as caught:
        assert_rank_stable("lora", "alpha/sqrt(r)", budget=rv.Budget(draws=1000), **SGD)
    words = caught.value.price.split()
    factor, draws = float(words[1]), int(words[4])
    assert_rank_stable("lora", "alpha/sqrt(r)", budget=rv.Budget(draws=int(1.5 * factor * draws) + 1), **SGD)


@pytest.mark.statistical
def test_allowing_the_inconclusive_does_not_allow_the_false() -> None:
    with pytest.raises(AssertionError, match="does not hold"):
        assert_rank_stable("lora", "alpha/r", allow_inconclusive=True, **SGD)


@pytest.mark.statistical
def test_a_theory_that_simulation_contradicts_holds_nothing(monkeypatch) -> None:
    """The mutant: a derivation that is off by half a power. Simulation alone would have confirmed."""
    from rsverify import symbolic

    right = symbolic.derive
    monkeypatch.setattr(symbolic, "derive", lambda adapter, rule, **options: right(adapter, "alpha", **options))
    with pytest.raises(AssertionError, match="the witnesses disagree"):
        assert_rank_stable("lora", "alpha/sqrt(r)", **SGD)
    with pytest.raises(AssertionError, match="the witnesses disagree"):
        assert_exponent("lora", "alpha/sqrt(r)", exponent=0, **SGD)


@pytest.mark.statistical
def test_the_error_budget_of_the_session_is_the_default(heard) -> None:
    token = statements.ERROR_BUDGET.set(1e-3)
    try:
        row = assert_rank_stable("lora", "alpha/sqrt(r)", **SGD)
    finally:
        statements.ERROR_BUDGET.reset(token)
    own = assert_rank_stable("lora", "alpha/sqrt(r)", error_budget=1e-9, **SGD)
    assert row.estimated is not None and own.estimated is not None
    assert [statement.rate for statement in heard] == [1e-3, 1e-9]
    assert row.estimated.level == pytest.approx(1 - 1e-3 / 6) and own.estimated.level == pytest.approx(1 - 1e-9 / 6, abs=1e-12)


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda: assert_rank_stable("lora", "alpha/r"), TypeError, "quantity"),
        (lambda: assert_rank_stable("lora", "alpha/r", statistics="rms", **SGD), TypeError, "unexpected argument 'statistics'"),
        (lambda: assert_rank_stable("laro", "alpha/r", **SGD), UnknownName, "did you mean 'lora'"),
        (lambda: assert_rank_stable("lora", "alpha/r", ranks="8", **SGD), InputError, "at least two"),
        (lambda: assert_exponent("lora", "alpha/r", exponent=float("nan"), **SGD), InputError, "exponent=nan"),
    ],
)
def test_half_a_claim_or_a_wrong_one_is_refused(call, error, said) -> None:
    with pytest.raises(error, match=said):
        call()


def test_identity_at_init_passes_and_fails(heard) -> None:
    for subject in ("lora", "dora", "pissa", LORA.subject(), rv.adapters()["vera"]):
        assert_identity_at_init(subject)
    wrong = mutants()["last_factor_not_zero"].wrong
    with pytest.raises(AssertionError, match="does not hold: output at init.*alpha/sqrt.*check_init_identity: at init the 18x12 layer"):
        assert_identity_at_init(wrong)
    with pytest.raises(AssertionError, match="does not hold: output at init"):
        assert_identity_at_init("lora-xs")  # declared to start near, not at, the pretrained layer: that is no excuse here
    assert [statement.answer for statement in heard] == ["confirmed"] * 5 + ["refuted"] * 2


def test_merge_equivalence_passes_fails_and_cannot_tell(heard) -> None:
    for subject in ("lora", "dora", LORA.subject()):
        assert_merge_equivalent(subject)
    for name in ("merge_ignores_the_rule", "parent_and_child_merge", "merged_twice", "unmerge_forgets_the_users_scale"):
        with pytest.raises(AssertionError, match="does not hold: output and weight after merging") as caught:
            assert_merge_equivalent(mutants()[name].wrong)
        assert not isinstance(caught.value, Inconclusive)
    bare = LORA.subject().without("merge", "unmerge")
    with pytest.raises(Inconclusive, match="the subject has no merge"):
        assert_merge_equivalent(bare)
    assert_merge_equivalent(bare, allow_inconclusive=True)
    with pytest.raises(AssertionError, match="check_build_module: raised ZeroDivisionError"):
        assert_merge_equivalent(lambda rank, base, alpha: 1 / 0)
    assert heard[-1].answer == "refuted" and heard[-2].answer == "inconclusive"


def test_the_room_is_reached_lazily() -> None:
    import subprocess
    import sys

    code = "import sys, rsverify as rv; rv.testing; print([n for n in ('hypothesis', 'torch', 'sympy', 'pytest') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert rv.testing.strategies.ranks and rv.testing.assertions.assert_rank_stable and "testing" not in rv.__all__
