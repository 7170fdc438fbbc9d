"""Inits decide as much as rules: spreads in r, which factor is zero, frames, principal components that absorb one gamma."""

from fractions import Fraction as Q

import numpy as np
import pytest

import rsverify as rv
from rsverify.definitions.claims import data_quantities, setting
from rsverify.montecarlo.dense.engine import Engine
from rsverify.montecarlo.dense.observables import observe
from rsverify.montecarlo.problem import Problem

LORA = rv.adapters()["lora"]


def principal(decay="0"):
    up, down = rv.PrincipalComponents("columns", decay), rv.PrincipalComponents("rows", decay)
    return rv.Adapter("principal", "o r, r i -> o i", B=up, A=down)


@pytest.mark.parametrize(
    ("laws", "p"),
    [
        ({}, Q(1, 2)),
        ({"A": rv.Gaussian(std="1/r")}, Q(-1, 2)),
        ({"A": rv.KaimingUniform(fan_in="r")}, Q(0)),
        ({"A": rv.Zero(), "B": rv.Gaussian(std=1)}, Q(1, 2)),
        ({"A": rv.Zero(), "B": rv.KaimingUniform(fan_in="r")}, Q(0)),
        ({"A": rv.Gaussian(std=1), "B": rv.Gaussian(std=1)}, Q(1, 2)),
        ({"A": rv.Constant("1/r")}, Q(-1, 2)),
        ({"A": rv.Uniform(bound="r**(-1/4)")}, Q(1, 4)),
        ({"A": rv.Orthonormal()}, Q(0)),
    ],
    ids=["kaiming", "std 1/r", "fan r", "A zero", "A zero, fan r", "both", "constant", "uniform", "orthonormal"],
)
def test_the_stable_rule_of_an_init(laws, p):
    assert rv.solve(LORA.with_init(**laws)).rule_exponent == p


def test_orthonormal_rows_are_another_law_at_ranks_far_below_the_width():
    """r rows of length one: the first step grows with r until r = d, where A'A becomes the identity."""
    adapter = LORA.with_init(A=rv.Orthonormal())
    assert rv.solve(adapter, regime="width").rule_exponent == Q(1, 2)
    at = rv.derive(adapter, "alpha").at([1, 2, 4, 8, 16], d_in=8, d_out=4)
    np.testing.assert_allclose(at[3], at[4])
    assert at[0] < at[1] < at[2] < at[3]


@pytest.mark.parametrize(("decay", "p"), [("0", Q(1)), ("1/2", Q(1, 2)), ("1", Q(0)), ("2", Q(0))])
def test_principal_components_absorb_one_gamma(decay, p):
    """Under SGD the first step goes as gamma, not gamma**2, times sum k**-decay: a mere logarithm at decay 1."""
    found = rv.derive(principal(decay), "alpha")
    assert min(a for a, _, _ in found.terms) == 1
    assert rv.solve(principal(decay)).rule_exponent == p
    assert found.log_exponent == (1 if decay == "1" else 0)
    assert "min(d_in, d_out)" in found.notes[0]


def test_the_principal_part_itself_knows_no_gamma():
    found = rv.derive(principal(), "alpha/r", quantity="output", steps=0)
    assert {a for a, _, _ in found.terms} == {0}
    assert found.exponent == Q(1, 2)


@pytest.mark.statistical
@pytest.mark.parametrize("decay", ["0", "1/2"])
@pytest.mark.parametrize("quantity", ["update", "loss_decrease", "gradient_norm"])
def test_principal_components_by_both_witnesses(decay, quantity):
    """The rule's own gamma reaches the draw: a factor that forgot it would be off by gamma**1/2, tenfold at alpha = 100."""
    asked = {"quantity": quantity, "steps": 0 if quantity == "gradient_norm" else 1}
    seen = rv.estimate(principal(decay), "alpha/sqrt(r)", ranks=[1, 2, 4, 8], d_in=12, d_out=9, alpha=100.0, **asked)
    data = {key: value for key, value in seen.data.items() if key != "cosine"}
    said = rv.derive(principal(decay), "alpha/sqrt(r)", **asked).at([point.rank for point in seen.curve], **data)
    for point, value in zip(seen.curve, said, strict=True):
        assert point.lo <= value <= point.hi
        assert not point.lo <= 2 * value <= point.hi  # and a wrong one would have been seen


def test_more_components_than_a_weight_has_are_refused_before_anything_is_drawn():
    with pytest.raises(rv.AdapterError, match="16 principal components of a weight with a side of 9"):
        rv.estimate(principal(), "alpha/r", ranks=[4, 16], d_in=24, d_out=9)


def test_pissa_is_derivable_once_its_spectrum_is_stated():
    pissa = rv.adapters()["pissa"]
    given = pissa.with_init(B=rv.PrincipalComponents("columns", "1/2"), A=rv.PrincipalComponents("rows", "1/2"))
    assert rv.derive(given, "alpha").formula == rv.derive(principal("1/2"), "alpha").formula
    with pytest.raises(rv.AdapterError, match="A has none"):
        pissa.with_init(B=rv.PrincipalComponents("columns"))
    with pytest.raises(rv.NotDerivable, match="whatever its init"):
        rv.adapters()["dora"].with_init(A=rv.Gaussian())


@pytest.mark.statistical
@pytest.mark.parametrize("decay", ["0", "1"])
def test_principal_components_equal_sampling(decay):
    """Means of 4000 draws within 6 standard errors: false at most once in 1e8 each."""
    adapter, rank, d, gamma, draws = principal(decay), 3, 5, 0.5, 4000
    rng = np.random.default_rng(11)
    x, v = rng.standard_normal(d), rng.standard_normal(4)
    sizes, shapes = {"r": rank, "gamma": gamma}, adapter.shapes(rank, d, 4)
    factors = {name: law.draw(rng, (draws, *shapes[name]), sizes) for name, law in adapter.laws.items()}
    for asked in ({}, {"quantity": "gradient_norm"}, {"quantity": "output", "steps": 0}, {"quantity": "input_gradient"}):
        claim = setting(adapter, "alpha", statistic="frobenius", **asked)
        values = observe(claim, Engine(adapter, rank, gamma, d, 4), Problem(x, x, v), factors, lr=0.3, draws=draws).values
        data = {k: w for k, w in data_quantities(x, x, v).items() if k != "cosine"}
        found = rv.derive(adapter, "alpha", statistic="frobenius", **asked).at([rank], d_in=d, d_out=4, gamma=[gamma], lr=0.3, **data)[0]
        assert abs(values.mean() - found**2) < 6 * values.std() / np.sqrt(draws)


def test_principal_components_refuse_what_they_cannot_be():
    for bad in ({"components": "both"}, {"components": "rows", "decay": "-1"}, {"components": "rows", "decay": "fast"}):
        with pytest.raises(rv.AdapterError, match="expected"):
            rv.PrincipalComponents(**bad)
    with pytest.raises(rv.AdapterError, match="no more than"):
        rv.PrincipalComponents("rows").standard_draw(np.random.default_rng(0), (5, 3))
    with pytest.raises(rv.AdapterError, match="gamma"):
        rv.Adapter("plain", "o r, r i -> o i", B=rv.Zero(), A=rv.Gaussian(std="1/sqrt(gamma)"))


BAD = {
    "o r, r i -> o j": "bound by no factor",
    "o r, r i, r r -> o i": "twice",
    "o r, r i, i -> o i": "operands",
    "o r, r i -> o": "two axes",
    "o r, r i": "exactly one '->'",
}


@pytest.mark.parametrize("expression", BAD)
def test_bad_expressions_show_their_place(expression):
    laws = {name: rv.Zero() for name in "BAC"[: 1 + expression.split("->")[0].count(",")]}
    if BAD[expression] == "operands":
        laws.pop("C")
    with pytest.raises(rv.AdapterError, match=BAD[expression]) as caught:
        rv.Adapter("bad", expression, **laws)
    text = str(caught.value).splitlines()
    assert text[1].strip() == expression and set(text[2].strip()) == {"^"}


def test_a_factor_never_used_and_an_axis_of_two_sizes_are_refused():
    with pytest.raises(rv.AdapterError, match="2 operands but 3 factors"):
        rv.Adapter("bad", "o r, r i -> o i", B=rv.Zero(), A=rv.Zero(), C=rv.Zero())
    two = rv.Adapter("bad", "o r, r i -> o i", sizes={"i": "2*d_in"}, B=rv.Zero(), A=rv.Gaussian(std=1))
    for ask in (lambda: two.shapes(2, 3, 3), lambda: rv.derive(two, "alpha")):
        with pytest.raises(rv.AdapterError, match="'i' has two sizes") as caught:
            ask()
        _, shown, carets = str(caught.value).splitlines()
        assert shown[carets.index("^")] == "i" and carets.index("^") > shown.index("->") and carets.count("^") == 1
    group = rv.Adapter("bad", "a r, r b, i -> (a b) i", sizes={"a": "2", "b": "3"}, B=rv.Zero(), A=rv.Gaussian(), C=rv.Gaussian())
    for ask in (lambda: group.shapes(2, 3, 5), lambda: rv.derive(group, "alpha")):
        with pytest.raises(rv.AdapterError, match="a b has two sizes, d_out") as caught:
            ask()
        _, shown, carets = str(caught.value).splitlines()
        assert shown[carets.index("^") : carets.rindex("^") + 1] == "(a b)"


def test_a_size_that_a_function_makes_of_the_rank_is_not_guessed():
    adapter = rv.Adapter("f", "o r n, r i -> o i", sizes=lambda d_in, d_out, r: {"n": d_in // r + 1}, B=rv.Zero(), A=rv.Gaussian(std=1))
    with pytest.raises(rv.NotDerivable, match="formula"):
        rv.derive(adapter, "alpha")


def test_sizes_by_function_keep_their_symbols_and_take_numbers():
    found = rv.derive("lokr", "alpha")
    x, v = np.arange(1.0, 7.0), np.arange(1.0, 5.0)
    with pytest.raises(rv.RsverifyError, match="n_"):
        found.at([2], d_in=6, d_out=4)
    data = {k: w for k, w in data_quantities(x, x, v, adapter=rv.adapters()["lokr"], r=[2, 4]).items() if k != "cosine"}
    assert np.isfinite(found.at([2, 4], d_in=6, d_out=4, **data)).all()


def test_data_over_an_axis_that_grows_with_the_rank_has_an_exponent_and_no_curve():
    found = rv.derive("miss", "1")
    assert found.exponent == 0 and found.formula is None and "differs at every rank" in found.notes[0]
    assert rv.derive("miss", "1", probe="orthogonal").exponent == Q(-1, 2)


def test_sizes_that_grow_alike_are_told_apart_by_their_coefficients():
    """RandLoRA's constant 1/max(n, d) with n = d/r: both grow with the width, and r >= 1 decides."""
    assert rv.derive("randlora", "alpha", regime="width").exponent == 0
