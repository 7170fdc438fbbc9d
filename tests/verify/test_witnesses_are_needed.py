"""Flip a sign or drop a factor in any one witness: `verify` exits 1. And it holds when nothing is broken."""

from dataclasses import replace

import pytest
import sympy as sp

from rsverify.definitions.claims import setting
from rsverify.montecarlo import updates
from rsverify.montecarlo.channels import moves
from rsverify.montecarlo.engines import ENGINES, silent_engines
from rsverify.montecarlo.gram import spans
from rsverify.montecarlo.samplers import Task
from rsverify.studies.verify import verify
from rsverify.symbolic.answers import witness as symbolic
from rsverify.symbolic.moments import symbols as s
from rsverify.symbolic.steps import polynomial, signstep
from rsverify.symbolic.steps.magnitude import Magnitude
from rsverify.training.first_step import closed_form as firststep
from rsverify.training.first_step import witness

RANKS = "4,16,64,256"


def quick(**changes):
    return verify(ranks="16,64,256,1024", quick=True, **changes)


def test_nothing_broken_holds():
    verdict = quick()
    assert verdict.verdict == "holds", verdict.sentence
    assert verdict.exit_code == 0
    assert quick(optimizers=["adafactor"]).verdict == "holds"


def test_a_fresh_seed_holds_too():
    assert quick(seed=12345).verdict == "holds"


@pytest.mark.parametrize(
    "factor", [-1, 2, s.gamma, 1 / s.gamma, sp.sqrt(s.r)], ids=["sign", "factor 2", "gamma twice", "gamma lost", "rank"]
)
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_symbolic(monkeypatch, factor, optimizer):
    whole = {"sgd": (polynomial, polynomial.magnitude), "adamw": (signstep, signstep.magnitude)}
    module, true = whole[optimizer]

    def broken(*asked):
        found = true(*asked)
        if isinstance(found, Magnitude):
            return replace(found, value=found.value * factor**found.root)
        value, squared = found
        return value * factor ** (2 if squared else 1), squared

    symbolic._magnitude.cache_clear()
    monkeypatch.setattr(module, "magnitude", broken)
    try:
        assert quick(optimizers=[optimizer]).exit_code == 1
    finally:
        symbolic._magnitude.cache_clear()


ENGINE_OF = {"sgd": "gram", "adamw": "channels", "adafactor": "dense"}
"""Each Monte Carlo engine writes its own steps: an optimizer for which it is the one that speaks of LoRA."""


@pytest.mark.parametrize("optimizer", ENGINE_OF)
def test_every_engine_is_broken_by_one_of_the_optimizers_below(optimizer):
    asked = setting("lora", "alpha/r", optimizer=optimizer)
    assert next(name for name in ENGINES if name not in silent_engines(asked)) == ENGINE_OF[optimizer]


def break_step(monkeypatch, engine: str, factor: float) -> None:
    if engine == "gram":
        step = spans._step
        monkeypatch.setattr(spans, "_step", lambda state, gP, gM, **k: step(state, factor * gP, factor * gM, **k))
    elif engine == "channels":
        first = moves.first_step
        monkeypatch.setattr(moves, "first_step", lambda *a: factor * first(*a))
    else:
        update = updates._UPDATES["adafactor"]
        monkeypatch.setitem(updates._UPDATES, "adafactor", lambda *a: factor * update(*a))


@pytest.mark.parametrize("factor", [-1.0, 2.0, 0.5], ids=["sign", "factor 2", "half"])
@pytest.mark.parametrize("optimizer", ENGINE_OF)
def test_monte_carlo(monkeypatch, factor, optimizer):
    break_step(monkeypatch, ENGINE_OF[optimizer], factor)
    assert quick(optimizers=[optimizer]).exit_code == 1


@pytest.mark.parametrize("gamma", [lambda g, r: 1.0, lambda g, r: g * r**0.5], ids=["gamma lost", "rank"])
@pytest.mark.parametrize("optimizer", ENGINE_OF)
def test_monte_carlo_under_another_gamma(monkeypatch, gamma, optimizer):
    true = Task.gamma
    monkeypatch.setattr(Task, "gamma", lambda self, rank: gamma(true(self, rank), rank))
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
@pytest.mark.parametrize("gamma", [lambda g, r: g**0, lambda g, r: g * r**0.5], ids=["gamma lost", "rank"])
def test_training_under_another_gamma(monkeypatch, gamma):
    true = witness.per_layer
    monkeypatch.setattr(witness, "per_layer", lambda *a, gammas, ranks, **k: true(*a, gammas=gamma(gammas, ranks), ranks=ranks, **k))
    assert trained("sgd").exit_code == 1
