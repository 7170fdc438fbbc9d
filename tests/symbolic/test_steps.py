"""Several SGD steps: two derivations that share no step, enumeration, sampled runs, and the closed pathwise form by induction."""

import itertools
import re
from fractions import Fraction as Q

import numpy as np
import pytest
import sympy as sp
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import rsverify as rv
from rsverify.definitions.claims import data_quantities, setting
from rsverify.montecarlo.dense.naive import NaiveAdapter
from rsverify.symbolic.answers.given import given_steps
from rsverify.symbolic.moments import symbols as s
from rsverify.symbolic.steps import polynomial, several
from tests.symbolic.variants import Signs

QUANTITIES = [
    {}, {"statistic": "projection"}, {"quantity": "input_gradient"}, {"quantity": "input_gradient", "statistic": "projection"},
    {"quantity": "loss_decrease"}, {"quantity": "gradient:B"}, {"quantity": "gradient_norm"},
]  # fmt: skip


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "sgd:weight_decay=0.25,lr_ratio=2", "momentum:weight_decay=0.5"])
@pytest.mark.parametrize("name", ["lora", "lora-fa"])
@pytest.mark.parametrize("k", [1, 2])
def test_the_recursion_in_q_and_m_equals_the_steps_put_into_the_network(optimizer, name, k):
    for asked in QUANTITIES:
        a = setting(name, "1", steps=k, optimizer=optimizer, **asked)
        short, _ = several.magnitude(a.adapter, a.optimizer, a.claim)
        long, _ = polynomial.magnitude(a.adapter, a.optimizer, a.claim)
        assert sp.expand(short - long) == 0, asked


def test_closed_form_by_induction():
    """Holds at no step; one step of the recursion maps the form at k to the form at k + 1, for every k at once."""
    E, F, t, size = sp.symbols("E F t size", positive=True)  # (1 + t)**k, (1 - t)**k, lr gamma |v| |x|, |v| |x|
    p, q = (E + F) / 2, (F - E) / (2 * size)
    after_p, after_q = p - t * size * q, q - t / size * p
    assert sp.expand(after_p - (E * (1 + t) + F * (1 - t)) / 2) == 0
    assert sp.expand(after_q - (F * (1 - t) - E * (1 + t)) / (2 * size)) == 0
    assert sp.expand(p * q * size + (E**2 - F**2) / 4) == 0
    wrong = (E - F) / (2 * size)  # the sign of q
    assert sp.expand(wrong - t / size * p - ((E * (1 + t) - F * (1 - t)) / (2 * size))) != 0


@pytest.mark.parametrize("k", [0, 1, 2, 5])
def test_pathwise_form_is_q_times_p(k):
    c, response = several.repeated(k), sp.Symbol("u2", positive=True)
    assert sp.expand(several.pathwise(k, response) - s.gamma * c.q * (1 + c.m * s.x_norm2) * response) == 0


@pytest.mark.parametrize("k", [1, 3, 6])
def test_pathwise_form_holds_for_a_run(k):
    rng = np.random.default_rng(k)
    x, v, A = rng.standard_normal(5), rng.standard_normal(3), rng.standard_normal((2, 5))
    gamma, lr = 0.7, 0.11
    B = np.zeros((3, 2))
    start = A
    for _ in range(k):
        B, A = B - lr * gamma * np.outer(v, A @ x), A - lr * gamma * np.outer(B.T @ v, x)
    u2 = float((start @ x) @ (start @ x))
    values = {s.gamma: gamma, s.lr: lr, s.x_norm2: x @ x, s.v_norm2: v @ v}
    np.testing.assert_allclose(gamma * B @ A @ x, float(several.pathwise(k, sp.Float(u2, 17)).subs(values)) * v, rtol=1e-10)


def test_moments_of_the_pathwise_form_are_those_of_the_chi_square():
    adapter = rv.adapters()["lora"].with_init(A=rv.Gaussian(std=2))
    a = setting(adapter, "1", steps=3, statistic="frobenius")
    found, _ = several.magnitude(a.adapter, a.optimizer, a.claim)
    c = several.pathwise(3, sp.Integer(1))
    expected = c**2 * s.v_norm2 * several.chi_square_moment(2, sp.Integer(4))
    assert sp.expand(found.subs(s.cosine, 1) - expected) == 0


fractions = st.fractions(min_value=-2, max_value=2, max_denominator=3)


@settings(max_examples=25, deadline=None, phases=[Phase.generate], suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_given_data_equals_enumeration(data):
    """All sign matrices A_0 of two rows, and loops for the steps: mean and second moment as fractions."""
    count = data.draw(st.integers(1, 3))
    vector = lambda n: data.draw(st.lists(fractions, min_size=n, max_size=n))  # noqa: E731
    xs, vs, probe = [vector(2) for _ in range(count)], [vector(2) for _ in range(count)], vector(2)
    gamma, lr, rank = Q(1, 2), Q(2, 3), 2
    kept, decay, ratio = data.draw(st.sampled_from([Q(0), Q(1, 2)])), data.draw(st.sampled_from([Q(0), Q(1, 4)])), 2
    adapter = rv.adapters()["lora"].with_init(A=Signs())
    optimizer = rv.optimizers()["momentum"].with_options(momentum=float(kept), weight_decay=float(decay), lr_ratio=ratio)
    found = given_steps(adapter, xs, vs, probe, rank=rank, gamma=gamma, lr=lr, optimizer=optimizer)
    outputs = []
    for signs in itertools.product((-1, 1), repeat=rank * 2):
        A = [[Q(signs[2 * k + i]) for i in range(2)] for k in range(rank)]
        B = [[Q(0)] * rank for _ in range(2)]
        mB, mA = [[Q(0)] * rank for _ in range(2)], [[Q(0)] * 2 for _ in range(rank)]
        for x, v in zip(xs, vs, strict=True):
            u = [sum(A[k][i] * x[i] for i in range(2)) for k in range(rank)]
            z = [sum(B[o][k] * v[o] for o in range(2)) for k in range(rank)]
            mB = [[kept * mB[o][k] + gamma * v[o] * u[k] + decay * B[o][k] for k in range(rank)] for o in range(2)]
            mA = [[kept * mA[k][i] + gamma * z[k] * x[i] + decay * A[k][i] for i in range(2)] for k in range(rank)]
            B = [[B[o][k] - ratio * lr * mB[o][k] for k in range(rank)] for o in range(2)]
            A = [[A[k][i] - lr * mA[k][i] for i in range(2)] for k in range(rank)]
        u = [sum(A[k][i] * probe[i] for i in range(2)) for k in range(rank)]
        outputs.append([gamma * sum(B[o][k] * u[k] for k in range(rank)) for o in range(2)])
    mean = [sum(y[o] for y in outputs) / len(outputs) for o in range(2)]
    assert [sp.Rational(str(m)) for m in mean] == [sp.sympify(m) for m in found.mean]
    for o, p in itertools.product(range(2), repeat=2):
        second = sum(y[o] * y[p] for y in outputs) / len(outputs)
        assert sp.Rational(str(second - mean[o] * mean[p])) == sp.sympify(found.covariance[o, p])


def test_given_data_of_one_repeated_sample_is_the_formula():
    x, v, probe = np.array([1.0, -2.0, 0.5]), np.array([1.0, 2.0]), np.array([2.0, 1.0, -0.5])
    found = given_steps("lora", [x] * 3, [v] * 3, probe, rank=4, gamma=0.5, lr=0.1, optimizer="momentum:weight_decay=0.01")
    cosine = float(x @ probe / (x @ x))
    predicted = rv.derive("lora", "alpha", steps=3, statistic="frobenius", optimizer="momentum:weight_decay=0.01", probe=f"cosine:{cosine}")
    data = data_quantities(x, probe, v)
    at = predicted.at([4], d_in=3, d_out=2, alpha=0.5, lr=0.1, **data)
    np.testing.assert_allclose(at[0] ** 2, float(found.second_moment), rtol=1e-12)


def test_derive_speaks_for_several_steps():
    for k in (2, 5):
        for p, rule in ((Q(1), "alpha/r"), (Q(1, 2), "alpha/sqrt(r)")):
            found = rv.derive("lora", rule, steps=k)
            assert (found.exponent, found.exact) == (1 - 2 * p, True)
    small = rv.derive("lora", "alpha/sqrt(r)", steps=5).at([64], d_in=16, d_out=8, lr=1e-6)
    one = rv.derive("lora", "alpha/sqrt(r)").at([64], d_in=16, d_out=8, lr=5e-6)
    np.testing.assert_allclose(small, one, rtol=1e-6)


def test_two_steps_of_another_structure_equal_loops():
    """VeRA has no closed form here: its steps are put into the network; with constant factors they are numbers that loops find too."""
    adapter = rv.Adapter(
        "vera", "o, o r, r, r i -> o i", b=rv.Zero(), B=rv.frozen(rv.Constant(2)), d=rv.Constant(3), A=rv.frozen(rv.Constant(1))
    )
    a = setting(adapter, "alpha", steps=2, statistic="frobenius")
    x, v = [1, 2], [1, -1]
    naive = NaiveAdapter(adapter.expression, {"o": 2, "r": 2, "i": 2}, list(adapter.laws), gamma=1.0)
    start = {"b": np.zeros(2), "B": np.full((2, 2), 2.0), "d": np.full(2, 3.0), "A": np.ones((2, 2))}
    after = naive.train_sgd(start, ["b", "d"], x, v, steps=2, lr=1.0)
    found, _ = polynomial.magnitude(a.adapter, a.optimizer, a.claim)
    data = {**data_quantities(np.array(x), np.array(x), np.array(v), names=["V6"]), "r": 2, "d_in": 2, "d_out": 2, "gamma": 1, "lr": 1}
    assert found.subs({symbol: int(data[symbol.name]) for symbol in found.free_symbols}) == sum(
        int(y) ** 2 for y in naive.output(after, x, 2)
    )


def test_too_many_steps_name_their_price():
    with pytest.raises(rv.BudgetError, match="degree 4000"):
        rv.derive("lora", "alpha/r", steps=1000)
    priced = rv.derive("loha", "alpha/r", steps=3)  # told to leading order in lr, with the price of the whole
    assert priced.error_order == "O(lr)" and re.search("networks|partitions", priced.notes[0])
