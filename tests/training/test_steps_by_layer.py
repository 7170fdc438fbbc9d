"""The witness on a block speaks for every adapter: its steps against autograd on whole modules, and seen to be wrong where they are."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rsverify.definitions import Gaussian, as_adapter, as_optimizer, as_rule
from rsverify.definitions.registry import adapters
from rsverify.records import Measurement
from rsverify.training.first_step import by_layer, witness
from rsverify.training.first_step.by_autograd import first_step_by_autograd
from rsverify.training.first_step.probes import capture
from rsverify.training.first_step.witness import measure_all, trained_setting
from rsverify.training.stack.configuration import Configuration
from rsverify.training.stack.train import train_stacked

sys.path.insert(0, str(Path(__file__).parent))

from test_every_adapter import Own
from test_stacked import small_task

pytestmark = pytest.mark.training
LORA = as_adapter("lora")
AUTOGRAD = {
    ("gradient_norm", "frobenius", 0): "gradient_norm",
    ("loss_decrease", "rms", 1): "loss_decrease",
    ("update", "projection", 1): "update_projection",
    ("update", "rms", 1): "update_rms",
    ("input_gradient", "rms", 1): "input_gradient_rms",
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def problem():
    return small_task().problem()


def asked(adapter, optimizer="sgd", *, rule="alpha/r", names=tuple(AUTOGRAD)):
    return [trained_setting(adapter, rule, optimizer=optimizer, quantity=q, statistic=s, steps=t) for q, s, t in names]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("name", ["loha", "lokr-lycoris", "moe-lora", "lora-random"])
def test_steps_equal_those_of_autograd_on_attached_adapters(name, optimizer, problem):
    """`lora-random` adds something at init: its inputs and signals are those of a pass with it attached."""
    adapter = LORA.with_init(B=Gaussian(std="0.1"), A=Gaussian(std="0.1")).renamed(name) if name == "lora-random" else as_adapter(name)
    settings = asked(adapter, optimizer)
    answers = measure_all(settings, problem=problem, ranks=(2, 4), draws=2)
    for j, rank in enumerate((2, 4)):
        expected = first_step_by_autograd(
            problem, adapter, rank=rank, gamma=as_rule("alpha/r").gamma(rank, 20.0), optimizer=as_optimizer(optimizer), lr=1e-3, draw=1
        )
        for s in settings:
            key = AUTOGRAD[s.claim.quantity, s.claim.statistic, s.claim.steps]
            if key == "input_gradient_rms" and name == "lora-random":
                continue  # of the whole added weight there, of its change here
            np.testing.assert_allclose(answers[s.claim].per_seed[1][j], expected[key], rtol=1e-6, err_msg=key)


def test_followed_lora_is_its_closed_form_and_steps_go_on(problem, monkeypatch):
    settings = asked("lora", "adamw:weight_decay=0")
    closed = measure_all(settings, problem=problem, ranks=(2, 8), draws=3)
    monkeypatch.setattr(witness, "has_closed_form", lambda s: False)
    followed = measure_all(settings, problem=problem, ranks=(2, 8), draws=3, lr=1.0)
    for s in settings:
        np.testing.assert_allclose(followed[s.claim].per_seed, closed[s.claim].per_seed, rtol=1e-9)


@pytest.mark.parametrize("adapter", ["lora", "dora", Own], ids=str)
def test_later_steps_are_those_of_a_run_at_a_small_learning_rate(adapter):
    """Three real steps on one batch of the whole model: what the linears' weights have become by then."""
    task, lr, steps = small_task(), 1e-6, 3
    fixed = task.batch(0, 0)
    task = replace(task, batch=lambda step, data: fixed)
    run = train_stacked(task, [Configuration(4, "alpha/r", adapter=adapter, optimizer="sgd", lr=lr)], steps=steps, workers=1)
    seen = capture(task.problem())
    moved = sum(float(-(probe.G * run.delta(0, probe.name)).sum() / probe.V.norm()) for probe in seen.layers)
    (s,) = asked(adapter, names=[("update", "projection", steps)])
    measured = measure_all([s], problem=task.problem(), ranks=(2, 4), draws=2, lr=lr)[s.claim]
    assert moved == pytest.approx(measured.per_seed[0][1], rel=1e-3)


@pytest.mark.parametrize("name", [*adapters(), Own], ids=str)
def test_every_adapter_has_every_headline(name, problem):
    """In the right direction, and at a gradient of its own size at each rank; a rank that its axes have not is told."""
    names = [("update", "projection", 1), ("gradient_norm", "frobenius", 0), ("loss_decrease", "rms", 1)]
    settings = [s for optimizer in ("sgd", "adamw") for s in asked(name, optimizer, names=names)]
    answers = measure_all(settings, problem=problem, ranks=(2, 3, 4), draws=2)
    for s in settings:
        answer = answers[s.claim]
        assert isinstance(answer, Measurement), answer
        assert answer.exponent is not None and np.isfinite(answer.per_seed).all() and (np.array(answer.per_seed) > 0).all()
        assert answer.ranks == ((2, 4) if name == "miss" else (2, 3, 4))
    if name == "miss":
        assert any("rank 3 is left out" in note for note in answers[settings[0].claim].notes)


def own_exponents(problem, build, **given):
    settings = asked(build, names=[("update", "projection", 1), ("loss_decrease", "rms", 1), ("gradient_norm", "frobenius", 0)])
    return [measure_all(settings, problem=problem, ranks=(4, 16, 64), draws=4, **given)[s.claim] for s in settings]


def test_a_module_with_a_wrong_power_or_sign_is_seen(problem):
    update, decrease, gradient = own_exponents(problem, Own)
    assert update.exponent == pytest.approx(-1.0, abs=0.1) and gradient.exponent == pytest.approx(-0.5, abs=0.1)
    rank_stabilized = own_exponents(problem, lambda rank, base, alpha: Own(rank, base, alpha, power=0.5))
    assert rank_stabilized[0].exponent == pytest.approx(0.0, abs=0.1) and rank_stabilized[2].exponent == pytest.approx(0.0, abs=0.1)
    assert decrease.exponent == pytest.approx(-1.0, abs=0.1)


def _sign(monkeypatch):
    inner = by_layer._stepped
    monkeypatch.setattr(by_layer, "_stepped", lambda o, now, g, *rest, lr, **named: inner(o, now, g, *rest, lr=-lr, **named))


def _power(monkeypatch):
    inner = by_layer._follow_layer

    def follow(*given, gamma, **named):
        return inner(*given, gamma=gamma**0.5, **named)

    monkeypatch.setattr(by_layer, "_follow_layer", follow)


def _factor(monkeypatch):
    inner = by_layer.ByWeight.along
    monkeypatch.setattr(by_layer.ByWeight, "along", lambda self, change: inner(self, change) * (1.0 + change.shape[1] / 100))


@pytest.mark.parametrize("mutate", [_sign, _power, _factor])
def test_a_wrong_witness_is_seen(mutate, problem, monkeypatch):
    mutate(monkeypatch)
    with pytest.raises((AssertionError, TypeError)):
        test_steps_equal_those_of_autograd_on_attached_adapters("loha", "sgd", problem)
