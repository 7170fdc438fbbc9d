"""Answers that were wrong once, each with its kind, held against a simulation by autograd that shares no code with the package."""

import math
from fractions import Fraction as Q

import numpy as np
import pytest

import rsverify as rv
from benchmarks import _autograd
from rsverify.definitions.claims import data_quantities, setting
from rsverify.montecarlo.dense.drawing import draw_block
from rsverify.montecarlo.dense.engine import Engine
from rsverify.montecarlo.dense.observables import observe
from rsverify.montecarlo.problem import Problem
from rsverify.symbolic.moments.flatdata import averaged, flat_product

pytestmark = pytest.mark.statistical
D_IN, D_OUT, LR = 8, 6, 0.05
SIGMAS = 5.5  # some sixty comparisons: one false failure in a million runs


def simulated(adapter, optimizer, *, rank, data, draws=4000, rule="1", theory=True, **claim):
    question = _autograd.asked(
        setting(adapter, rule, optimizer=optimizer, **claim), rank=rank, d_in=D_IN, d_out=D_OUT, alpha=1.0, lr=LR, theory=theory
    )
    values = _autograd.simulate(question, data, draws=draws, seed=5).numpy()
    return values.mean(), values.std(ddof=min(1, draws - 1)) / math.sqrt(draws)


def flat(adapter, expression="o r, r i -> o i", **laws):
    return rv.Adapter(adapter, expression, **laws)


ONES_UP = flat("ones up", B=rv.frozen(rv.Constant(1)), A=rv.Zero())
MEANS = flat("means", B=rv.Constant(1), A=rv.Gaussian("1/r"))
ONES_DOWN = flat("ones down", B=rv.Zero(), A=rv.Constant("1/r"))
BOTH = flat("both", B=rv.Constant("1/r"), A=rv.Constant("1/i"))
GROUPED = rv.Adapter(
    "grouped", "a b, p r, r q -> (a p) (b q)", sizes={"a": "2", "b": "2", "p": "d_out/2", "q": "d_in/2"},
    C=rv.Constant(1), B=rv.Constant(1), A=rv.Gaussian("1/r"),
)  # fmt: skip
FLAT = [
    (ONES_UP, {}), (ONES_UP, {"quantity": "gradient_norm", "statistic": "frobenius", "steps": 0}), (ONES_UP, {"quantity": "loss_decrease"}),
    (ONES_UP, {"quantity": "input_gradient"}), (MEANS, {}), (MEANS, {"quantity": "output", "steps": 0}), (ONES_DOWN, {}),
    (ONES_DOWN, {"probe": "orthogonal"}), (ONES_DOWN, {"probe": "cosine:0.5", "steps": 2}), (BOTH, {"quantity": "output"}),
    (BOTH, {"quantity": "gradient:A", "steps": 1}), (ONES_UP, {"statistic": "projection"}),
    (GROUPED, {"quantity": "loss_decrease"}),
]  # fmt: skip


@pytest.mark.parametrize(("adapter", "claim"), FLAT, ids=str)
def test_flat_data_is_averaged_before_the_root(adapter, claim):
    prediction = rv.derive(adapter, "1", **claim)
    data = _autograd.flat_data(D_IN, D_OUT, prediction.claim.cosine, draws=4000, seed=3)
    for rank in (2, 5):
        mean, error = simulated(adapter, "sgd", rank=rank, data=data, **claim)
        (curve,) = prediction.at([rank], d_in=D_IN, d_out=D_OUT, lr=LR)
        value = curve if claim.get("statistic") == "projection" else curve**2
        assert abs(mean - value) <= SIGMAS * error + 1e-12 * abs(value)


@pytest.mark.parametrize("claim", [{}, {"quantity": "gradient_norm", "statistic": "frobenius", "steps": 0}, {"quantity": "loss_decrease"}])
def test_what_signs_alone_would_cancel_has_its_power(claim):
    power = Q(1, 2) if "steps" in claim else Q(1)
    assert rv.derive(ONES_UP, "1", regime="width", **claim).exponent == power


def test_a_mean_wins_over_a_spread_in_every_regime():
    for regime in ("rank", "width"):
        assert rv.derive(MEANS, "1", regime=regime).exponent == 1
    np.testing.assert_allclose(
        rv.derive(MEANS, "1").at([2, 4, 8], d_in=16, d_out=16, lr=1e-3), [0.0326, 0.0643, 0.1281], rtol=2e-3
    )  # fmt: skip


def test_given_signs_are_taken_all_or_none():
    prediction = rv.derive(BOTH, "1", quantity="output")
    x, v = np.array([1.0, -2, 1, 1, 1, 1, 1, 2]), np.ones(D_OUT) / math.sqrt(D_OUT)
    given = data_quantities(x, x, v)
    assert {"S10", "V1"} <= set(prediction.signs)
    data = {name: given[name] for name in prediction.signs}
    (curve,) = prediction.at([3], d_in=D_IN, d_out=D_OUT, lr=LR, x_norm2=float(x @ x), **data)
    t = _autograd.Data(*(_autograd.torch.from_numpy(a) for a in (x, x, v)))
    mean, _ = simulated(BOTH, "sgd", rank=3, data=t, draws=1, quantity="output")
    assert curve**2 == pytest.approx(mean, rel=1e-9)
    with pytest.raises(rv.RsverifyError, match="averaged over signs as one"):
        prediction.at([3], d_in=D_IN, d_out=D_OUT, S10=1.0)


def test_a_square_of_means_in_place_of_the_mean_is_seen():
    import sympy as sp

    from rsverify.symbolic.moments import symbols as s

    v1 = s.signal_sum(1)
    assert sp.simplify(averaged(v1**4, ("V1",), None) - s.v_norm2**2 * (3 - 2 / s.d_out)) == 0
    assert flat_product(["S10", "S01"], None) == s.cosine * s.x_norm2 and averaged(v1, ("V1",), None) ** 2 == 0


NAMED = {
    "U and D": flat("ud", U=rv.Zero(), D=rv.KaimingUniform("i")),
    "A up": flat("swapped", A=rv.Zero(), B=rv.Gaussian("1/sqrt(i)")),
    "down zero": flat("down", U=rv.Gaussian("1/sqrt(r)"), D=rv.Zero()),
    "both": flat("both drawn", P=rv.Gaussian("1/r"), Q=rv.Gaussian("1/i")),
}


@pytest.mark.parametrize("optimizer", ["sgd:lr_ratio=8", "momentum:lr_ratio=8,weight_decay=0.5", "adamw:lr_ratio=8,weight_decay=0.5,eps=0"])
@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("steps", [1, 2])
def test_lr_ratio_is_for_the_up_factor_whatever_it_is_called(name, optimizer, steps):
    adapter = NAMED[name]
    data = _autograd.problem(D_IN, D_OUT, 1.0, seed=11)
    mean, error = simulated(adapter, optimizer, rank=3, data=data, steps=steps)
    x, v = data.x.numpy(), data.v.numpy()

    asked = setting(adapter, "1", optimizer=optimizer, steps=steps)
    drawn, factors = next(
        draw_block(adapter, seed=7, phase="x", number=0, draws=4000, chunk=4000, rank=3, gamma=1.0, d_in=D_IN, d_out=D_OUT)
    )
    dense = observe(asked, Engine(adapter, 3, 1.0, D_IN, D_OUT), Problem(x, x, v), factors, lr=LR, draws=drawn).values
    assert abs(mean - dense.mean()) <= SIGMAS * math.hypot(error, dense.std(ddof=1) / math.sqrt(drawn)) + 1e-12
    if optimizer.startswith("adamw") or (name == "both" and steps == 2):
        return  # the first is silent here, the second takes long
    (curve,) = rv.derive(adapter, "1", optimizer=optimizer, steps=steps).at([3], d_in=D_IN, d_out=D_OUT, lr=LR, **data_quantities(x, x, v))
    assert abs(mean - curve**2) <= SIGMAS * error + 1e-12


def test_engines_and_theory_agree_on_lora_of_other_names():
    adapter, sizes = NAMED["U and D"], {"d_in": 32, "d_out": 24, "ranks": [4, 8]}
    for optimizer in ("sgd:lr_ratio=8,weight_decay=0.1", "adamw:lr_ratio=8,eps=0"):
        one = rv.estimate(adapter, "alpha/r", optimizer=optimizer, seed=1, **sizes)
        other = rv.estimate("lora", "alpha/r", optimizer=optimizer, seed=1, **sizes)
        np.testing.assert_allclose([p.value for p in one.curve], [p.value for p in other.curve], rtol=0.1)


def test_explain_tells_the_ratio():
    told = " ".join(rv.solve(NAMED["U and D"], optimizer="sgd:lr_ratio=8").explanation)
    assert "multiplies the learning rate of U" in told
    core = rv.Adapter(
        "xs", "o r, r s, s i -> o i", rank_axes=("r", "s"), P=rv.frozen(rv.Gaussian("1")), R=rv.Zero(), Q=rv.frozen(rv.Gaussian(1))
    )
    assert "moves nothing" in " ".join(rv.solve(core, optimizer="sgd:lr_ratio=8").explanation)


@pytest.mark.parametrize("optimizer", ["signsgd", "adam", "lion", "normalized-sgd", "muon", "adafactor"])
@pytest.mark.parametrize(("up", "power"), [("r", 2), ("1", 1)])
def test_a_projection_holds_the_mean_at_init(optimizer, up, power):
    adapter = flat("mean", B=rv.Constant(up), A=rv.frozen(rv.Constant(1)))
    prediction = rv.derive(adapter, "1", optimizer=optimizer, quantity="output", statistic="projection")
    assert prediction.exponent == power
    data = _autograd.problem(D_IN, D_OUT, 1.0, seed=2)
    far, farther = (
        abs(simulated(adapter, optimizer, rank=r, data=data, draws=2, quantity="output", statistic="projection")[0]) for r in (2**9, 2**10)
    )
    assert math.log2(farther / far) == pytest.approx(power, abs=0.05)


def test_adafactors_cap_is_in_the_formula():
    prediction = rv.derive("lora", "1", optimizer="adafactor")
    low, high, higher = (prediction.at([4], d_in=64, d_out=8, lr=lr)[0] for lr in (0.5, 1.0, 30.0))
    assert high == pytest.approx(2 * low) and higher == high
    data = _autograd.problem(D_IN, D_OUT, 1.0, seed=2)
    asked = setting(flat("g", B=rv.Zero(), A=rv.Gaussian(1)), "1", optimizer="adafactor:lr_ratio=4")
    q = _autograd.asked(asked, rank=3, d_in=D_IN, d_out=D_OUT, alpha=1.0, lr=0.5, theory=True)
    values = _autograd.simulate(q, data, draws=4000, seed=1).numpy()
    (curve,) = rv.derive(asked.adapter, "1", optimizer="adafactor:lr_ratio=4").at([3], d_in=D_IN, d_out=D_OUT, lr=0.5)
    assert abs(values.mean() - curve**2) <= SIGMAS * values.std(ddof=1) / math.sqrt(len(values))


@pytest.mark.parametrize(
    ("std", "eps", "known"), [(1, 100, False), ("1/sqrt(i)", 100, True), ("1/sqrt(i)", 0.5, False), ("1/r", 1e7, True), ("1/r", 1e3, False)]
)
def test_an_epsilon_is_small_at_every_width_or_told_as_two_regimes(std, eps, known):
    prediction = rv.derive(flat("g", B=rv.Zero(), A=rv.Gaussian(std)), "1/r", optimizer=f"adam:eps={eps}")
    assert (prediction.exponent is not None) == known and (prediction.exponent_range is None) == known
