"""Every optimizer's formula against simulation, in both witnesses' own words; and mutants of the formulas that simulation refuses."""

from fractions import Fraction as Q

import numpy as np
import pytest

import rsverify as rv
from rsverify.definitions.claims import setting
from rsverify.definitions.optimizers import scalar_reference
from rsverify.montecarlo.dense.drawing import draw_block
from rsverify.montecarlo.dense.engine import Engine
from rsverify.montecarlo.dense.observables import observe
from rsverify.montecarlo.problem import make_problem
from rsverify.statistics.intervals import normal_quantile
from rsverify.symbolic.answers import witness
from rsverify.symbolic.moments import symbols as s
from rsverify.symbolic.steps import coherence, normstep, scalarsteps, signstep
from rsverify.symbolic.steps.coherence import rank_one_gradient

pytestmark = pytest.mark.statistical

LORA = rv.adapters()["lora"]
NORMAL = LORA.with_init(A=rv.Gaussian(std="1/sqrt(i)"))
D_IN, D_OUT, LR = 7, 5, 0.02
LEVEL = 1 - 1e-6 / 200  # false failures of this file together: one in a million


def simulate(adapter, optimizer, *, rank, draws=4000, seed=0, lr=LR, sizes=(D_IN, D_OUT), **asked):
    """Mean of the claim's number (a square, or a signed mean) over draws, its standard error, and the data it belongs to."""
    from rsverify.definitions.claims import data_quantities

    d_in, d_out = sizes
    what = setting(adapter, "1", optimizer=optimizer, **asked)
    problem = make_problem(seed, d_in=d_in, d_out=d_out, cosine=what.claim.cosine)
    engine = Engine(what.adapter, rank, 1.0, d_in, d_out)
    blocks = draw_block(
        what.adapter, seed=seed, phase="test", rank=rank, gamma=1.0, d_in=d_in, d_out=d_out, number=0, draws=draws, chunk=draws
    )
    n, factors = next(iter(blocks))
    values = observe(what, engine, problem, factors, lr=lr, draws=n).values
    return values.mean(), values.std(ddof=1) / np.sqrt(n), data_quantities(problem.x, problem.x_probe, problem.v)


def off_by(adapter, optimizer, *, rank, allowed=0.0, draws=4000, **asked):
    """How many allowed half-widths the formula lies from the simulated mean: at most one where it is right."""
    mean, error, data = simulate(adapter, optimizer, rank=rank, draws=draws, **asked)
    found = rv.derive(adapter, "1", optimizer=optimizer, **asked)
    said = found.at([rank], d_in=D_IN, d_out=D_OUT, lr=LR, **data)[0]
    said = said if asked.get("statistic") == "projection" else said**2
    # Rounding is allowed for where every draw gives the same number.
    return abs(said - mean) / (normal_quantile(LEVEL) * error + (allowed + 1e-12) * abs(said))


ASKED = [
    {},
    {"statistic": "frobenius", "probe": "cosine:0.6"},
    {"probe": "orthogonal"},
    {"quantity": "input_gradient"},
    {"quantity": "loss_decrease"},
    {"quantity": "gradient_norm"},
    {"quantity": "gradient:A"},
]
FIRST = [
    "signsgd", "lion", "adam", "adamw:weight_decay=0.9", "rmsprop", "adagrad", "adafactor", "adafactor:d=0.5", "normalized-sgd", "muon",
    "muon-torch", "muon:weight_decay=2", "adamw:lr_ratio=4", "normalized-sgd:lr_ratio=3",
]  # fmt: skip


@pytest.mark.parametrize("optimizer", FIRST)
@pytest.mark.parametrize("asked", ASKED, ids=str)
def test_the_first_step_is_exact_for_gaussian_factors(optimizer, asked):
    assert rv.derive(NORMAL, "1", optimizer=optimizer, **asked).exact
    for rank in (3, 11):
        assert off_by(NORMAL, optimizer, rank=rank, **asked) <= 1


@pytest.mark.parametrize("optimizer", ["adamw", "muon-torch", "normalized-sgd"])
@pytest.mark.parametrize("quantity", ["update", "input_gradient"])
def test_signed_means(optimizer, quantity):
    """The mean length of a normal vector is by Stirling's series: its next term, 5/(128 r**3), is 3e-5 at rank 11."""
    assert off_by(NORMAL, optimizer, rank=11, quantity=quantity, statistic="projection", allowed=1e-4, draws=20_000) <= 1


@pytest.mark.parametrize("optimizer", ["signsgd", "lion:weight_decay=0.9", "signsgd:lr_ratio=4"])
@pytest.mark.parametrize("asked", [*ASKED, {"statistic": "projection", "probe": "cosine:0.6"}], ids=str)
def test_several_sign_steps_are_exact(optimizer, asked):
    assert rv.derive(NORMAL, "1", optimizer=optimizer, steps=3, **asked).exact is True
    assert off_by(NORMAL, optimizer, rank=5, steps=3, **asked) <= 1


@pytest.mark.parametrize("optimizer", ["adam", "adamw:weight_decay=0.9", "adagrad"])
def test_several_adaptive_steps_to_first_order(optimizer):
    """At lr 0.02 a response drifts by some lr sum|x_i| / |u| = 0.15 of itself a step: the formula's error is of that size."""
    found = rv.derive(NORMAL, "1", optimizer=optimizer, steps=3)
    assert not found.exact and "O(lr)" in found.error_order
    assert off_by(NORMAL, optimizer, rank=5, steps=3, allowed=0.15) <= 1


def test_frozen_down_factor_keeps_every_adaptive_step_exact():
    still = NORMAL.with_init(A=rv.frozen(rv.Gaussian(std="1/sqrt(i)")))
    for optimizer in ("adam", "rmsprop", "adagrad"):
        assert rv.derive(still, "1", optimizer=optimizer, steps=4).exact
        assert off_by(still, optimizer, rank=5, steps=4) <= 1


@pytest.mark.parametrize(
    ("optimizer", "place", "mutant"),
    [
        ("rmsprop", (signstep, "first_factor"), lambda optimizer: 1),
        ("adafactor", (signstep, "first_factor"), lambda optimizer: 1),
        ("muon-torch", (normstep, "shape_factor"), lambda optimizer, rows, columns: 1),
        ("muon:weight_decay=2", (normstep, "decay_left"), lambda name, decay: 1),
        ("adamw:weight_decay=2", (signstep, "decay_left"), lambda name, decay: 1),
        ("adamw:lr_ratio=4", (signstep, "first_rate"), lambda optimizer, adapter, name: s.lr),
        ("normalized-sgd:lr_ratio=3", (normstep, "learning_rate_ratio"), lambda optimizer, adapter, name: 1),
    ],
    ids=["rmsprop", "adafactor", "shape", "decay", "decay, sign", "ratio, sign", "ratio"],
)
def test_a_formula_with_a_factor_dropped_is_refused(monkeypatch, optimizer, place, mutant):
    witness._magnitude.cache_clear()
    monkeypatch.setattr(*place, mutant)
    assert off_by(NORMAL, optimizer, rank=3) > 1
    witness._magnitude.cache_clear()


def test_scalar_steps_against_the_plain_reference():
    gradients = [1.0, 2.5, 3.0, 3.5]
    for name in ("signsgd", "lion", "adam", "adamw", "rmsprop", "adagrad"):
        options = {"eps": 0.0} if "eps" in rv.optimizers()[name].defaults else {}
        optimizer = rv.optimizers()[name].with_options(weight_decay=0.0, **options)
        path = [0.0, *scalar_reference(optimizer, gradients, lr=1.0)]
        np.testing.assert_allclose([float(step) for step in scalarsteps.sign_steps(optimizer, gradients)], -np.diff(path), rtol=1e-9)


def test_later_steps_carry_two_powers_of_the_learning_rate():
    """What A's own motion adds has the same power of r and one more of lr: the second exponent of the muA learning rate."""
    found = rv.solve("lora", optimizer="signsgd", steps=2)
    assert found.terms == ((Q(1), Q(1), Q(1)), (Q(1), Q(1), Q(2)))
    assert found.lr_exponent(Q(1, 2)) == Q(-1, 2)
    assert len(rv.solve("lora-fa", optimizer="signsgd", steps=2).terms) == 1


def test_muon_in_each_regime():
    assert rv.solve("lora", optimizer="muon").rule_exponent == Q(1, 2)
    assert rv.solve("lora", optimizer="muon-torch", regime="width").rule_exponent == 0
    assert rv.solve("lora", optimizer="muon-torch").rule_exponent == Q(1, 2)
    assert any("crossover is at r = R" in note for note in rv.derive("lora", "1", optimizer="muon").notes)
    found = rv.derive("lora", "1", optimizer="muon-torch")
    below, above = found.at([4, 8, 16], d_in=32, d_out=32), found.at([64, 128, 256], d_in=32, d_out=32)
    decay = 0.9  # weight decay 0.1 at lr 1 leaves this of A at every rank
    np.testing.assert_allclose(below, below[0], rtol=1e-12)
    np.testing.assert_allclose(below[0], decay / np.sqrt(3), rtol=1e-12)  # per entry: |y| = sqrt(d_out) gamma lr |u| / sqrt(r)
    np.testing.assert_allclose(above / above[0], [1, np.sqrt(2), 2], rtol=1e-12)


def test_a_large_epsilon_is_sgd_again():
    for optimizer in ("adam:eps=1000", "adamw:eps=1000,weight_decay=0.5", "rmsprop:eps=1000", "adagrad:eps=1000"):
        found = rv.derive("lora", "alpha/r", optimizer=optimizer)
        assert found.exponent == rv.derive("lora", "alpha/r", optimizer="sgd").exponent
        assert any("crossover" in note for note in found.notes)
        assert rv.solve("lora", optimizer=optimizer).rule_exponent == Q(1, 2)
        # An entry of the gradient is at most some 3, and epsilon 1000: g/(|g| + eps) is g/eps to 0.3 percent.
        assert off_by(NORMAL, optimizer, rank=5, allowed=0.006) <= 1


def test_an_epsilon_beside_the_gradient_gives_both_ends():
    found = rv.derive("lora", "alpha/r", optimizer="adamw:eps=1e-8")
    assert found.exponent is None and found.exponent_range == (-1, 0) and found.formula is None
    both = rv.solve("lora", optimizer="adamw:eps=1e-8")
    assert both.status == "interval" and both.rule_interval == (Q(1, 2), Q(1))


CASES = [
    ("adalora", "signsgd"), ("vera", "signsgd"), ("moe-lora", "lion"), ("loha", "signsgd"), ("loha-lycoris", "adam"),
    ("lokr", "signsgd"), ("lokr-lycoris", "signsgd"), ("hira", "adagrad"), ("adalora", "normalized-sgd"), ("loha", "muon"),
    ("loha", "muon-torch"), ("hira", "muon"), ("adalora", "adafactor"),
]  # fmt: skip


def slope(name, optimizer, **asked):
    """The simulated power of r between ranks 160 and 1280, in layers of 8 by 8."""
    sides = [simulate(rv.adapters()[name], optimizer, rank=rank, draws=150, sizes=(8, 8), lr=1e-3, **asked)[0] for rank in (160, 1280)]
    return float(np.log(sides[1] / sides[0]) / np.log(8)) / 2


@pytest.mark.parametrize(("name", "optimizer"), CASES)
@pytest.mark.parametrize("asked", [{}, {"quantity": "loss_decrease"}, {"quantity": "input_gradient"}], ids=str)
def test_coherence_fixes_the_power(name, optimizer, asked):
    """The margin is a fifth of the step between rules, 1/2: finite ranks make some d/r = 0.05 of it, draws 0.02."""
    found = rv.derive(name, "1", optimizer=optimizer, **asked)
    assert not found.exact and found.formula is None
    assert slope(name, optimizer, **asked) == pytest.approx(float(found.exponent), abs=0.1)


def test_wide_layers_are_bracketed():
    """In a layer of 512 by 512 AdaLoRA's sign step walks at random; a mixture's unit step is known."""
    found = rv.derive("adalora", "1", optimizer="signsgd", regime="width")
    assert found.exponent_range == (Q(1, 2), Q(1))
    sides = [simulate(rv.adapters()["adalora"], "signsgd", rank=rank, draws=60, sizes=(512, 512))[0] for rank in (4, 32)]
    assert np.log(sides[1] / sides[0]) / np.log(8) / 2 == pytest.approx(0.5, abs=0.1)
    assert rv.derive("moe-lora", "1", optimizer="normalized-sgd", regime="width").exponent == Q(1, 2)


def test_orthogonal_probes_walk_at_random():
    for name in ("adalora", "vera", "moe-lora"):
        found = rv.derive(name, "1", optimizer="signsgd", probe="orthogonal")
        assert slope(name, "signsgd", probe="orthogonal") == pytest.approx(float(found.exponent), abs=0.15)


def test_coherence_agrees_with_the_exact_formulas(monkeypatch):
    """On LoRA itself, where both routes speak; a mutant that forgets how many entries move is refused."""
    adamw = rv.optimizers()["adamw"]
    for asked in ({}, {"quantity": "input_gradient"}, {"quantity": "loss_decrease"}, {"quantity": "gradient:A", "statistic": "frobenius"}):
        claim = setting("lora", "1", optimizer=adamw, **asked).claim
        bounds = witness.exponent_range(coherence.magnitude(LORA, adamw, claim), claim, Q(0))
        exact = rv.derive("lora", "1", optimizer=adamw, **asked).exponent
        assert bounds == (exact, exact)
    claim = setting("lora", "1", optimizer=adamw).claim
    monkeypatch.setattr(coherence.OneStep, "count", lambda self, names, without=(): 1)
    assert witness.exponent_range(coherence.magnitude(LORA, adamw, claim), claim, Q(0)) == (Q(1, 2), Q(1, 2))


def test_gradients_of_rank_one_are_told():
    assert rank_one_gradient(LORA, "B") and rank_one_gradient(rv.adapters()["lora-xs"], "R")
    assert not rank_one_gradient(rv.adapters()["loha"], "W2b")
    assert not rank_one_gradient(rv.adapters()["lokr"], "w1")
    assert not rank_one_gradient(rv.adapters()["vera"], "b")


@pytest.mark.parametrize(
    ("adapter", "asked", "reason"),
    [
        ("vera", {"optimizer": "muon"}, "only a matrix"),
        ("loha", {"optimizer": "adafactor"}, "rank one only"),
        ("moe-lora", {"optimizer": "muon", "steps": 2}, "only a matrix"),
        ("loha", {"optimizer": "adamw", "probe": "orthogonal"}, "more than one cosine"),
        ("lora", {"optimizer": "adam:weight_decay=0.1"}, "coupled weight decay"),
        ("lora", {"optimizer": "normalized-sgd:weight_decay=0.1"}, "no weight decay"),
        ("hira", {"optimizer": "rmsprop:weight_decay=0.1", "steps": 2}, "coupled weight decay"),
        ("lora", {"optimizer": "adamw:eps=1", "steps": 2}, "neither SGD nor signs"),
        ("lora", {"optimizer": "sgd:clip=1"}, "clipping"),
        ("vera", {"optimizer": "adamw", "quantity": "input_gradient", "regime": "width"}, "power of the width"),
        ("miss", {"optimizer": "adamw", "quantity": "input_gradient"}, "cannot outgrow"),
    ],
)
def test_silence_says_why(adapter, asked, reason):
    with pytest.raises(rv.NotDerivable, match=reason):
        rv.derive(adapter, "alpha/r", **asked)
    with pytest.raises(rv.NotDerivable, match=reason):
        rv.solve(adapter, **asked)


def test_a_power_that_solve_would_need_a_core_for_names_it():
    with pytest.raises(rv.NotDerivable, match="row norm") as refused:
        rv.solve("dora", optimizer="adamw")
    assert refused.value.core == rv.adapters()["lora"]
    with pytest.raises(rv.NotDerivable, match="only a matrix can be orthogonalised"):
        rv.derive("dora", "alpha/r", optimizer="muon")
