"""Every assertion is seen to pass, to fail and to be unable to tell; messages leave nothing of the claim out."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch import nn

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


class Lora(nn.Module):
    """LoRA as a user writes it, under alpha / r**power."""

    def __init__(self, rank, base, alpha, power=1.0):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.A = nn.Parameter(torch.empty(rank, base.in_features, dtype=base.weight.dtype))
        nn.init.kaiming_uniform_(self.A, a=5**0.5)
        self.B = nn.Parameter(torch.zeros(base.out_features, rank, dtype=base.weight.dtype))
        self.gamma = alpha / rank**power

    def forward(self, x):
        return self.base(x) + self.gamma * (x @ self.A.T) @ self.B.T


def root(rank, base, alpha):
    return Lora(rank, base, alpha, 0.5)


FEW = {"ranks": "16,64,256"}


@pytest.mark.statistical
def test_modules_are_asserted_about_as_they_are_built(heard) -> None:
    assert_rank_stable(root, "alpha/sqrt(r)", **SGD, **FEW)
    assert_exponent(rv.Subject(Lora), exponent=0, **ADAMW, **FEW)
    row = assert_collapses(Lora, "alpha/r", **SGD, **FEW)
    assert row.predicted is None and "as it is built" in row.silent["symbolic"]
    assert [statement.answer for statement in heard] == ["confirmed"] * 3 and {statement.rate for statement in heard} == {1e-6}


@pytest.mark.statistical
@pytest.mark.parametrize(
    ("assertion", "subject", "said"),
    [
        (assert_rank_stable, Lora, "found collapses"),
        (assert_collapses, root, "found stable"),
        (assert_explodes, rv.Subject(Lora), "found collapses"),
    ],
)
def test_what_does_not_hold_of_a_module_fails(heard, assertion, subject, said) -> None:
    """A rule that is only claimed does not help: the module is what is simulated."""
    with pytest.raises(AssertionError, match=said) as caught:
        assertion(subject, "alpha/sqrt(r)", **SGD, **FEW)
    assert not isinstance(caught.value, Inconclusive) and "as built" in str(caught.value)
    with pytest.raises(AssertionError, match=r"exponent 0.5 \+- 0.1; found"):
        assert_exponent(subject, "alpha/sqrt(r)", exponent=0.5, **SGD, **FEW)


@pytest.mark.statistical
def test_few_draws_of_a_module_are_inconclusive_and_name_their_price() -> None:
    with pytest.raises(Inconclusive, match="cannot tell whether") as caught:
        assert_rank_stable(root, "alpha/sqrt(r)", ranks="16,32", budget=rv.Budget(draws=64), **SGD)
    assert caught.value.price


@pytest.mark.statistical
def test_adapters_that_are_not_multilinear_are_simulated_as_modules() -> None:
    row = assert_exponent("delora", "alpha/sqrt(r)", exponent=0, quantity="gradient_norm", steps=0, optimizer="sgd", **FEW)
    assert row.claim.adapter == "delora" and row.predicted is None


@pytest.mark.parametrize(
    ("subject", "rule", "said"),
    [
        (Lora(2, nn.Linear(3, 3), 1.0), "alpha/r", "is a Lora of one rank"),
        (Lora, None, "rule is missing"),
        (7, "alpha/r", "adapter=7; expected a declared adapter"),
    ],
)
def test_what_is_no_adapter_is_refused(subject, rule, said) -> None:
    with pytest.raises(InputError, match=said):
        assert_rank_stable(subject, rule, **SGD)
