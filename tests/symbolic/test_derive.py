"""What derive says: exponents of the theorem, of its counterpart for sign steps, and silence where it cannot speak."""

from fractions import Fraction as Q

import numpy as np
import pytest

import rsverify as rv

RULES = {"alpha/r": Q(1), "alpha/sqrt(r)": Q(1, 2), "alpha/r**0.75": Q(3, 4), "alpha": Q(0)}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    ("asked", "sgd", "adamw"),
    [
        ({}, lambda p: 1 - 2 * p, lambda p: 1 - p),
        ({"statistic": "projection"}, lambda p: 1 - 2 * p, lambda p: 1 - p),
        ({"probe": "orthogonal"}, lambda p: Q(1, 2) - 2 * p, lambda p: Q(1, 2) - p),
        ({"probe": "cosine:0.5"}, lambda p: 1 - 2 * p, lambda p: 1 - p),
        ({"quantity": "gradient_norm", "statistic": "frobenius", "steps": 0}, lambda p: Q(1, 2) - p, lambda p: Q(1, 2) - p),
        ({"quantity": "loss_decrease"}, lambda p: 1 - 2 * p, lambda p: 1 - p),
        ({"quantity": "input_gradient"}, lambda p: 1 - 2 * p, lambda p: 1 - p),
        ({"quantity": "input_gradient", "regime": "width"}, lambda p: Q(1, 2) - 2 * p, lambda p: Q(1, 2) - p),
        ({"quantity": "gradient:A", "statistic": "frobenius"}, lambda p: Q(1, 2) - 2 * p, lambda p: Q(1, 2) - p),
    ],
    ids=["update", "projection", "orthogonal", "cosine", "norm", "loss", "input", "input, wide", "gradient A"],
)
def test_exponents(rule, asked, sgd, adamw):
    p = RULES[rule]
    assert rv.derive("lora", rule, optimizer="sgd", **asked).exponent == sgd(p)
    assert rv.derive("lora", rule, optimizer="adamw", **asked).exponent == adamw(p)


def test_output_at_init_vanishes():
    found = rv.derive("lora", "alpha/r", quantity="output", steps=0)
    assert found.zero
    assert found.exponent is None


def test_exact_and_leading_are_told_apart():
    lora = rv.adapters()["lora"]
    assert rv.derive(lora, "alpha/r").exact
    assert not rv.derive(lora, "alpha/r", optimizer="adamw").exact
    assert rv.derive(lora.with_init(A=rv.Gaussian(std="1/sqrt(i)")), "alpha/r", optimizer="adamw").exact


def test_input_gradient_of_the_gaussian_is_the_known_curve():
    """sqrt(r (r + d + 1)) times gamma**2, for std 1 and |x|**2 = d."""
    adapter = rv.adapters()["lora"].with_init(A=rv.Gaussian(std=1))
    ranks, d = np.array([1, 4, 16, 64]), 10
    found = rv.derive(adapter, "alpha", quantity="input_gradient").at(ranks.tolist(), d_in=d, d_out=3)
    np.testing.assert_allclose(found, np.sqrt(ranks * (ranks + d + 1)), rtol=1e-12)


def test_init_decides_as_much_as_the_rule():
    adapter = rv.adapters()["lora"].with_init(A=rv.Gaussian(std="1/r"))
    assert rv.derive(adapter, "alpha/r").exponent == -3
    assert rv.derive(adapter, "alpha*sqrt(r)").exponent == 0


@pytest.mark.parametrize("optimizer", ["adam:weight_decay=0.1", "normalized-sgd:weight_decay=1", "sgd:clip=1", "adamw:clip=1"])
def test_silence_has_a_reason(optimizer):
    with pytest.raises(rv.NotDerivable) as caught:
        rv.derive("lora", "alpha/r", optimizer=optimizer)
    assert len(caught.value.reason) > 20


def test_an_axis_that_one_factor_alone_sums_counts_in_the_gradient():
    """B[o, r, t] moves the same for each of three t, and all three add up."""
    wide = rv.Adapter("wide", "o r t, r i -> o i", sizes={"t": "3"}, B=rv.Zero(), A=rv.KaimingUniform())
    one, three = (rv.derive(adapter, "alpha").at([5], d_in=8, d_out=4) for adapter in ("lora", wide))
    np.testing.assert_allclose(three, 3 * one, rtol=1e-12)


def test_logs_are_not_guessed():
    with pytest.raises(rv.NotDerivable):
        rv.derive("lora", "alpha/r", statistic="log")


def test_a_rule_without_a_power_law_is_refused():
    for rule in ("alpha/log(r)", lambda r, alpha: alpha / r):
        with pytest.raises(rv.RuleError):
            rv.derive("lora", rule)


def test_a_factor_named_as_data_is_not_mistaken_for_it():
    adapter = rv.Adapter("clash", "o r, r i -> o i", B=rv.Zero(), v=rv.Gaussian(std=1))
    with pytest.raises(rv.NotDerivable, match="another name"):
        rv.derive(adapter, "alpha/r")
