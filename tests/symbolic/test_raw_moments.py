"""Raw moments: the engine against rank channels, against enumeration, and against corrupted twins of itself."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
import sympy as sp
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import rsverify as rv
from rsverify.definitions.claims import data_quantities, setting
from rsverify.definitions.laws import Frozen
from rsverify.montecarlo.dense.engine import Engine
from rsverify.montecarlo.dense.observables import observe
from rsverify.montecarlo.problem import Problem
from rsverify.symbolic.answers.raw import channel_moment, raw_moment
from rsverify.symbolic.moments import expectation, frames
from rsverify.symbolic.moments import symbols as s
from rsverify.symbolic.moments.network import Atom, Index, Term
from tests.symbolic.variants import Signs

GAUSSIAN = rv.adapters()["lora"].with_init(A=rv.Gaussian(std=1))


def quadratic(order, left="x", right="x"):
    atoms = []
    for _ in range(order):
        k, i, j = Index.new("r"), Index.new("i"), Index.new("i")
        atoms += [Atom("A", (k, i)), Atom("A", (k, j)), Atom(left, (i,)), Atom(right, (j,))]
    return (Term(sp.Integer(1), tuple(atoms)),)


def test_eighth_moment_of_the_response_through_channels():
    expected = s.x_norm2**4 * s.r * (s.r + 2) * (s.r + 4) * (s.r + 6)
    assert sp.expand(channel_moment(GAUSSIAN, 4) - expected) == 0


def test_eighth_moment_of_the_output_has_two_million_pairings_and_two_routes():
    assert expectation.count_partitions(quadratic(8), GAUSSIAN) == 2_027_025
    output = raw_moment(GAUSSIAN, 8) * s.d_out / (sp.Symbol("V8", real=True) * s.gamma**16 * s.lr**8)
    assert sp.expand(output - channel_moment(GAUSSIAN, 8)) == 0
    assert sp.expand(output - s.x_norm2**8 * sp.Mul(*(s.r + 2 * k for k in range(8)))) == 0


@pytest.mark.parametrize("law", [rv.Gaussian(std=1), rv.Uniform(bound=1), Signs(), rv.Constant(2)], ids=str)
@pytest.mark.parametrize("order", [1, 2, 3])
def test_engine_and_channels_agree_for_every_law(law, order):
    adapter = GAUSSIAN.with_init(A=law)
    assert sp.expand(expectation.expectation(quadratic(order, "x'"), adapter) - channel_moment(adapter, order, probe=True)) == 0


def test_lohas_fourth_moment_is_merged():
    """A million pairings and more, in diagrams that are a few hundred; at rank one with signs it is the mean over all of them."""
    assert sp.degree(raw_moment("loha-lycoris", 4), s.r) == 8
    adapter = rv.adapters()["loha"].with_init(W1a=Signs(), W1b=Signs(), W2a=Signs())
    x, v = np.array([1, 2]), np.array([1, -3])
    outcomes = []
    for bits in itertools.product((-1, 1), repeat=6):
        a, b, c = np.array(bits[:2]), np.array(bits[2:4]), np.array(bits[4:])
        pull = np.array([sum(v[o] * a[o] * c[o] * b[i] * x[i] for o in range(2)) for i in range(2)])  # gradient of W2b
        outcomes.append([-sum(a[o] * b[i] * c[o] * pull[i] * x[i] for i in range(2)) for o in range(2)])
    mean = Fraction(sum(int(y) ** 4 for pair in outcomes for y in pair), 2 * len(outcomes))
    found = raw_moment(adapter, 4)
    asked = [symbol.name for symbol in found.free_symbols if symbol.name[0] in "SV"]
    at, signal = x.astype(float), v.astype(float)
    data = {**data_quantities(at, at, signal, names=asked), "r": 1, "d_in": 2, "d_out": 2, "gamma": 1, "lr": 1}
    assert found.subs({symbol: int(data[symbol.name]) for symbol in found.free_symbols}) == sp.Rational(str(mean))


@pytest.mark.parametrize("name", ["lora", "lora-fa", "adalora", "moe-lora", "hira", "vera", "loha", "loha-lycoris"])
def test_second_raw_moment_is_the_square_of_rms(name):
    found = rv.derive(name, "alpha").expression ** 2
    names = {symbol.name: symbol for symbol in raw_moment(name, 2).free_symbols}
    same = raw_moment(name, 2).subs({symbol: sp.Symbol(n, positive=n != "cosine", real=True) for n, symbol in names.items()})
    assert sp.simplify(found - same) == 0


def test_orders_that_take_too_long_name_their_price_first():
    with pytest.raises(rv.BudgetError, match="121550625 partitions") as caught:
        raw_moment("lora-xs", 4)
    assert caught.value.needed == 105**4
    with pytest.raises(rv.BudgetError, match="partitions"):
        raw_moment("lora", 12)


@pytest.mark.parametrize("bad", [{"order": 0}, {"order": 3, "statistic": "frobenius"}, {"order": True}])
def test_bad_orders(bad):
    with pytest.raises(rv.RsverifyError, match="order="):
        raw_moment("lora", bad.pop("order"), **bad)


def orthonormal(rows, columns):
    return rv.Adapter("frame", "o r, r i -> o i", B=rv.Zero(), A=rv.Orthonormal())


def test_weights_of_orthonormal_frames_are_the_known_ones():
    n = frames.n
    assert frames.weights(2) == {(1,): 1 / n}
    four = frames.weights(4)
    assert sp.simplify(four[1, 1] - (n + 1) / (n * (n - 1) * (n + 2))) == 0
    assert sp.simplify(four[2,] + 1 / (n * (n - 1) * (n + 2))) == 0


def test_an_orthogonal_matrix_keeps_lengths():
    """At r = d_in A'A = 1: every moment of |Ax|**2 is that of the constant |x|**2, a sum over all weights."""
    for order in (1, 2, 3):
        found = expectation.expectation(quadratic(order), orthonormal(3, 3)).subs({s.r: 7, s.d_in: 7})
        assert sp.simplify(found - s.x_norm2**order) == 0


def test_projection_on_a_random_subspace_is_beta_distributed():
    """|Ax|**2 / |x|**2 ~ Beta(r/2, (d - r)/2): E = r/d, E of the square r (r+2) / (d (d+2)); for r > d columns are orthonormal: 1."""
    for r, d in ((2, 5), (3, 3), (1, 4)):
        found = expectation.expectation(quadratic(2), orthonormal(r, d)).subs({s.r: r, s.d_in: d, s.x_norm2: 1})
        assert found == sp.Rational(r * (r + 2), d * (d + 2))
    assert expectation.expectation(quadratic(2), orthonormal(5, 3)).subs({s.r: 5, s.d_in: 3, s.x_norm2: 1}) == 1


LAWS = [rv.Gaussian(std="1/sqrt(i)"), rv.Uniform(bound=1), rv.KaimingUniform(fan_in="r"), rv.Orthonormal(), rv.Constant("1/r")]
FORMS = ["lora", "lora-fa", "both", "hadamard", "kronecker"]


@pytest.mark.statistical
@settings(max_examples=30, deadline=None, phases=[Phase.generate], derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(LAWS), st.sampled_from(FORMS), st.integers(1, 4), st.integers(2, 5), st.sampled_from([1, 2]))
def test_drawn_cases_equal_sampling(law, form, rank, d, order):
    """Means of 3000 draws within 6 standard errors: false at most once in 1e7 over all examples, were the means normal."""
    adapter = {
        "lora": rv.Adapter("lora", "o r, r i -> o i", B=rv.Zero(), A=law),
        "lora-fa": rv.Adapter("lora-fa", "o r, r i -> o i", B=rv.Zero(), A=Frozen(law)),
        "both": rv.Adapter("both", "o r, r i -> o i", B=rv.Gaussian(std=1), A=law),
        "hadamard": rv.Adapter("hadamard", "o r, r i, o i -> o i", B=rv.Zero(), A=law, W=rv.frozen(rv.Uniform(bound=1))),
        "kronecker": rv.Adapter(
            "k", "a r, r i, p -> (a p) i", sizes={"a": "d_out/2", "p": "2"}, B=rv.Zero(), A=law, W=rv.frozen(rv.Gaussian(std=1))
        ),
    }[form]
    claim = {"statistic": "frobenius"} if order == 2 else {"statistic": "projection"}
    asked = setting(adapter, "alpha", probe="cosine:0.5", **claim)
    rng = np.random.default_rng([rank, d, order])
    x, z, v = rng.standard_normal(d), rng.standard_normal(d), rng.standard_normal(4)
    z -= (z @ x) / (x @ x) * x
    probe = x / 2 + np.sqrt(0.75) * z * np.linalg.norm(x) / np.linalg.norm(z)
    draws, sizes = 3000, adapter.axis_sizes(rank, d, 4)
    factors = {}
    for name, held in adapter.laws.items():
        shape = (draws, *adapter.shapes(rank, d, 4)[name])
        factors[name] = None if isinstance(held, rv.Zero) else held.draw(rng, shape, {**sizes, "d_in": d, "d_out": 4})
    values = observe(asked, Engine(adapter, rank, 0.5, d, 4), Problem(x, probe, v), factors, lr=0.5, draws=draws).values
    data = {k: w for k, w in data_quantities(x, probe, v, adapter=adapter, r=rank).items() if k != "cosine"}
    found = rv.derive(adapter, "alpha", probe="cosine:0.5", **claim)
    predicted = 0.0 if found.zero else found.at([rank], d_in=d, d_out=4, gamma=[0.5], lr=0.5, **data)[0]
    predicted = predicted**2 if order == 2 else predicted
    assert abs(values.mean() - predicted) <= 6 * values.std() / np.sqrt(draws) + 1e-9 * abs(predicted)


MUTANTS = {
    "a cumulant lost": ("_block_sizes", lambda law, count: tuple(k for k in (1, 2) if k <= count and law.standard_cumulant(k) != 0)),
    "pairs lost": ("_block_sizes", lambda law, count: tuple(k for k in (4,) if k <= count)),
    "a class not merged": ("united", lambda labels, edges, same: TRUE(labels, edges, list(same)[:-1])),
}
TRUE = expectation.united


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_corrupted_engine_is_caught(mutant, monkeypatch):
    """Each mutant changes a moment that the channels derive on their own."""
    name, wrong = MUTANTS[mutant]
    adapter = GAUSSIAN.with_init(A=rv.Uniform(bound=1))
    true = channel_moment(adapter, 2, probe=True)
    assert sp.expand(expectation.expectation(quadratic(2, "x'"), adapter) - true) == 0
    monkeypatch.setattr(expectation, name, wrong)
    expectation._engine.cache_clear()
    changed = expectation.expectation(quadratic(2, "x'"), adapter)
    expectation._engine.cache_clear()
    assert sp.expand(changed - true) != 0
