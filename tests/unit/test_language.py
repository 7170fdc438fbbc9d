"""The ground floor: formulas, laws, adapters, rules, ranks, optimizers, records, streams, intervals."""

import math
from fractions import Fraction

import numpy as np
import pytest
import scipy.stats
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

import rsverify as rv
from rsverify.definitions.adapter import Adapter
from rsverify.definitions.laws import Constant, Gaussian, KaimingUniform, Orthonormal, Uniform, Zero, frozen, rescaled
from rsverify.definitions.optimizers import as_optimizer, scalar_reference
from rsverify.definitions.ranks import parse_ranks
from rsverify.definitions.rules import ScalingRule, as_rule
from rsverify.errors import AdapterError, InputError, RuleError, UnknownName
from rsverify.expressions import Expression, ExpressionError
from rsverify.records import Claim, Control, Measurement, Point, Prediction, StableScaling, dumps, loads
from rsverify.statistics.intervals import mean_interval, slope_weights, student_quantile
from rsverify.statistics.streams import stream

numbers = st.integers(1, 9).map(str)
formulas = st.recursive(
    numbers | st.sampled_from(["r", "alpha"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda t: f"({t[0]}){t[1]}({t[2]})"),
        inner.map(lambda t: f"sqrt(abs({t}))"),
        st.tuples(inner, st.integers(-2, 3)).map(lambda t: f"({t[0]})**({t[1]})"),
    ),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(formulas)
def test_numbers_and_algebra_agree(text):
    expression = Expression(text)
    r, alpha = sp.symbols("r alpha", positive=True)
    try:
        value = expression.evaluate({"r": 3.0, "alpha": 2.0})
    except (ZeroDivisionError, OverflowError):
        return
    exact = expression.to_sympy({"r": r, "alpha": alpha}).subs({r: 3, alpha: 2})
    if math.isfinite(value) and exact.is_finite:
        assert math.isclose(value, float(exact), rel_tol=1e-6, abs_tol=1e-6)


@pytest.mark.parametrize(
    "text",
    ["", "r +", "import os", "__import__('os')", "r.real", "r[0]", "'a'", "True", "lambda: 1", "r if r else 1", "1e999", "9**9**9",
     "sqrt", "sqrt(1, 2)", "f(r)", "r @ r", "r ^ 2", "[r]", "r == 1", "1j", "(" * 300 + "r" + ")" * 300],
)  # fmt: skip
def test_what_is_not_in_the_language_is_refused(text):
    with pytest.raises(InputError):
        Expression(text)


def test_the_place_is_marked():
    with pytest.raises(ExpressionError, match="may not be called") as caught:
        Expression("alpha / open(r)")
    assert str(caught.value).splitlines()[-1].index("^") == 2 + len("alpha / ")


@pytest.mark.parametrize(("law", "truth"), [(Gaussian(1), scipy.stats.norm()), (Uniform(1), scipy.stats.uniform(-1, 2))])
def test_standard_moments(law, truth):
    for order in range(1, 7):
        assert math.isclose(float(law.standard_moment(order)), truth.moment(order), abs_tol=1e-9)


def test_cumulants():
    assert [Gaussian(1).standard_cumulant(k) for k in range(1, 7)] == [0, 1, 0, 0, 0, 0]
    assert Uniform(1).standard_cumulant(4) == Fraction(-2, 15)
    assert [Constant(1).standard_cumulant(k) for k in range(1, 5)] == [1, 0, 0, 0]


def test_draws_follow_the_sizes():
    rng = stream(1, "test")
    drawn = KaimingUniform("i").draw(rng, (200, 300), {"r": 200, "i": 300})
    assert np.abs(drawn).max() <= 1 / math.sqrt(300)
    assert math.isclose(drawn.var(), 1 / 900, rel_tol=0.03)
    q = Orthonormal().draw(rng, (3, 8), {"r": 3})
    np.testing.assert_allclose(q @ q.T, np.eye(3), atol=1e-12)
    assert rescaled(KaimingUniform("i"), "sqrt(r)").scale({"r": 4, "i": 16}) == 0.5
    assert not frozen(Gaussian(1)).trainable


@pytest.mark.parametrize(
    ("expression", "factors", "said"),
    [
        ("o r r i", {"B": Zero(), "A": Gaussian()}, "->"),
        ("o r, r i -> o j", {"B": Zero(), "A": Gaussian()}, "bound by no factor"),
        ("o r, r i -> o i", {"B": Zero()}, "2 operands but 1"),
        ("o r, r r -> o r", {"B": Zero(), "A": Gaussian()}, "twice"),
        ("o r, r i -> o", {"B": Zero(), "A": Gaussian()}, "two axes"),
        ("o k, k i -> o i", {"B": Zero(), "A": Gaussian()}, "rank axis"),
        ("o r, r i -> o i", {"B": frozen(Zero()), "A": frozen(Gaussian())}, "nothing would train"),
        ("o r, r i -> o i", {"B": Zero(), "A": Gaussian(std="1/q")}, "unknown quantity"),
        ("o r, r i -> o i", {"B": Zero(), "A": 3}, "not a law"),
    ],
)
def test_declarations_that_do_not_add_up(expression, factors, said):
    with pytest.raises(AdapterError, match=said):
        Adapter("x", expression, **factors)


def test_sizes_and_parameters():
    lora = rv.adapters()["lora"]
    assert lora.shapes(4, 8, 6) == {"B": (6, 4), "A": (4, 8)}
    assert lora.parameters(4, 8, 6) == 4 * (8 + 6)
    halves = {"a": "d_out/2", "p": "2", "b": "d_in/2", "q": "2"}
    lokr = Adapter("k", "a b, p r, r q -> (a p) (b q)", sizes=halves, C=Gaussian(), B=Zero(), A=Gaussian())
    assert lokr.shapes(3, 8, 6) == {"C": (3, 4), "B": (2, 3), "A": (3, 2)}
    with pytest.raises(AdapterError, match=r"two sizes, d_out=6 and a \* p=9"):
        Adapter("k", "a b, p r, r q -> (a p) (b q)", sizes={**halves, "p": "3"}, C=Gaussian(), B=Zero(), A=Gaussian()).axis_sizes(3, 8, 6)


@pytest.mark.parametrize(
    ("text", "power"),
    [("alpha/r", 1), ("alpha/sqrt(r)", Fraction(1, 2)), ("alpha/r**0.75", Fraction(3, 4)), ("alpha", 0), ("alpha*(r+1)/r**2", 1)],
)
def test_powers_of_rules(text, power):
    assert ScalingRule(text).power == power


@pytest.mark.parametrize("rule", ["alpha/(r-4)", "-alpha/r", "(3-r)**0.5", "exp(r**3)", "log(r)-log(r)"])
def test_rules_without_a_usable_value(rule):
    with pytest.raises(RuleError):
        as_rule(rule).at([4, 4096])


def test_rules_from_callables():
    rule = as_rule(lambda r, alpha: alpha / r)
    assert rule.gamma(4, 20) == 5
    with pytest.raises(RuleError, match="callable"):
        _ = rule.power
    with pytest.raises(RuleError):
        as_rule(lambda r, alpha: None).gamma(4)
    with pytest.raises(UnknownName, match="rslora"):
        as_rule("rslorra")


def test_ranks():
    assert parse_ranks("4:32") == (4, 8, 16, 32)
    assert parse_ranks("1, 2**40") == (1, 2**40)
    assert parse_ranks([3, np.int64(5)]) == (3, 5)
    for bad in ("", "0", "4,2", "4,4", "1.5", "4:9", "9:4", "a", [True], [2.0]):
        with pytest.raises(InputError):
            parse_ranks(bad)


@pytest.mark.parametrize("text", ["sgd", "momentum", "adam", "adamw:weight_decay=0.1", "rmsprop", "adagrad"])
def test_scalar_references_against_torch(text):
    torch = pytest.importorskip("torch")
    optimizer = as_optimizer(text)
    made = {
        "sgd": lambda p: torch.optim.SGD(p, lr=0.1), "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
        "adam": lambda p: torch.optim.Adam(p, lr=0.1), "adamw": lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.1),
        "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.1), "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.1),
    }[optimizer.name]  # fmt: skip
    gradients = [0.3, -1.2, 0.7, 0.0, 2.0]
    w = torch.nn.Parameter(torch.tensor(0.5, dtype=torch.float64))
    theirs, path = made([w]), []
    for g in gradients:
        w.grad = torch.tensor(g, dtype=torch.float64)
        theirs.step()
        path.append(w.item())
    np.testing.assert_allclose(scalar_reference(optimizer, gradients, lr=0.1, start=0.5), path, rtol=1e-12)


CLAIM = Claim("lora", "B=zero", "alpha/r", "sgd")


@pytest.mark.parametrize(
    "record",
    [
        Prediction(CLAIM, Fraction(-1, 2), formula=Expression("gamma*r"), terms=((Fraction(1), Fraction(1), Fraction(0)),)),
        Prediction(CLAIM, None, zero=True, exponent_range=(Fraction(0), Fraction(1, 2))),
        Measurement(CLAIM, -0.5, (-0.6, -0.4), 0.99, (Point(2**40, 1.0, 0.5, math.inf),), ((1.0,), (2.0,)), "base",
                    controls=(Control("a", 1.0, 1.0, 0.1),), bracket=(0.0, 0.5)),
        StableScaling("lora", "sgd", "update", Fraction(1, 2), "unique", ((Fraction(2), Fraction(1), Fraction(1)),)),
    ],
)  # fmt: skip
def test_records_to_json_and_back(record):
    assert loads(type(record), dumps(record)) == record


def test_lr_exponent_of_the_solver_record():
    adam = StableScaling("lora", "adamw", "update", Fraction(1), "unique", ((Fraction(1), Fraction(1), Fraction(1)),))
    assert adam.lr_exponent(ScalingRule("alpha/sqrt(r)")) == Fraction(-1, 2)
    still = StableScaling("lora", "sgd", "gradient_norm", Fraction(1, 2), "unique", ((Fraction(1), Fraction(1, 2), Fraction(0)),))
    assert still.lr_exponent(ScalingRule("alpha/r")) is None


def test_claims_refuse_what_cannot_be_meant():
    for bad in ({"quantity": "updat"}, {"statistic": "mean"}, {"probe": "cosine:2"}, {"regime": "depth"}, {"steps": -1}):
        with pytest.raises(InputError):
            Claim("lora", "", "alpha/r", "sgd", **bad)


def test_streams_are_named():
    assert (stream(0, "a").random(3) == stream(0, "a").random(3)).all()
    assert len({stream(*name).random() for name in ((0, "a"), (1, "a"), (0, "b"), (0, "a", 1), (0, "a", "1"))}) == 5


@pytest.mark.parametrize("freedom", [1, 5, 31, 1000])
def test_student_quantiles(freedom):
    for level in (0.5, 0.95, 1 - 1e-9):
        truth = scipy.stats.t.isf((1 - level) / 2, freedom)
        assert math.isclose(student_quantile(level, freedom), truth, rel_tol=1e-6)


@pytest.mark.statistical
def test_coverage_of_the_mean_interval():
    """2000 intervals at 95 %: the count of misses lies within 6 binomial standard deviations, false at most once in 1e8."""
    rng = stream(0, "test", "coverage")
    hits = sum(lo <= 0 <= hi for _, (lo, hi) in (mean_interval(rng.standard_normal(10), 0.95) for _ in range(2000)))
    assert abs(hits - 1900) < 6 * math.sqrt(2000 * 0.95 * 0.05)


def test_slope_weights_are_least_squares():
    x, y = np.array([1.0, 2.0, 4.0, 7.0]), np.array([3.0, 1.0, 4.0, 1.0])
    assert math.isclose(slope_weights(x) @ y, np.polyfit(x, y, 1)[0])
