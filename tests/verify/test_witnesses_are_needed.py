"""Flip a sign or drop a factor in any one witness: `verify` exits 1. And it holds when nothing is broken."""

import pytest
import sympy as sp

from rsverify.montecarlo import updates
from rsverify.studies.verify import verify
from rsverify.symbolic import polynomial, signstep
from rsverify.symbolic import symbols as s
from rsverify.symbolic import witness as symbolic
from rsverify.training import firststep, witness

RANKS = "4,16,64,256"


def quick(**changes):
    return verify(ranks="16,64,256,1024", quick=True, **changes)


def test_nothing_broken_holds():
    verdict = quick()
    assert verdict.verdict == "holds", verdict.sentence
    assert verdict.exit_code == 0


def test_a_fresh_seed_holds_too():
    assert quick(seed=12345).verdict == "holds"


@pytest.mark.parametrize(
    "factor", [-1, 2, s.gamma, 1 / s.gamma, sp.sqrt(s.r)], ids=["sign", "factor 2", "gamma twice", "gamma lost", "rank"]
)
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_symbolic(monkeypatch, factor, optimizer):
    whole = {"sgd": (polynomial, polynomial.magnitude), "adamw": (signstep, signstep.magnitude)}
    module, true = whole[optimizer]

    def broken(adapter, o, claim):
        value, squared, *rest = true(adapter, o, claim)
        return (value * factor ** (2 if squared else 1), squared, *rest)

    symbolic._magnitude.cache_clear()
    monkeypatch.setattr(module, "magnitude", broken)
    try:
        assert quick(optimizers=[optimizer]).exit_code == 1
    finally:
        symbolic._magnitude.cache_clear()


@pytest.mark.parametrize("factor", [-1.0, 2.0, 0.5], ids=["sign", "factor 2", "half"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_monte_carlo(monkeypatch, factor, optimizer):
    true = updates._UPDATES[optimizer]
    monkeypatch.setitem(updates._UPDATES, optimizer, lambda *a: factor * true(*a))
    assert quick(optimizers=[optimizer]).exit_code == 1


def trained(optimizer: str):
    return verify(rules=["alpha/sqrt(r)"], optimizers=[optimizer], ranks=RANKS)


@pytest.mark.training
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_training_holds_when_nothing_is_broken(optimizer):
    assert trained(optimizer).verdict == "holds"


@pytest.mark.training
@pytest.mark.parametrize("factor", [-1.0, 2.0], ids=["sign", "factor 2"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_training(monkeypatch, factor, optimizer):
    true = firststep.first_step
    monkeypatch.setattr(firststep, "first_step", lambda *a: factor * true(*a))
    assert trained(optimizer).exit_code == 1


@pytest.mark.training
def test_training_that_loses_gamma(monkeypatch):
    true = witness.per_layer
    monkeypatch.setattr(witness, "per_layer", lambda *a, gammas, **k: true(*a, gammas=gammas**0, **k))
    assert trained("sgd").exit_code == 1
