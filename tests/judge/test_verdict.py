"""The judge's three answers, and that each comparison can refute on its own."""

from dataclasses import replace
from fractions import Fraction

import pytest

from rsverify.expressions import Expression
from rsverify.records import Claim, Control, Estimate, Measurement, Point, Prediction
from rsverify.verdict import classify, curve_agreement, draws_to_settle, expected_outcome, interval_agreement, judge, outcome

CLAIM = Claim("lora", "B=zero", "alpha/r", "sgd")
RANKS = (4, 8, 16, 32)
DATA = {"d_in": 24.0, "d_out": 16.0, "alpha": 20.0, "lr": 1.0}


def prediction(exponent=Fraction(-1), formula="20/r"):
    return Prediction(CLAIM, exponent, formula=Expression(formula))


def estimate(exponent=-1.0, half=0.02, factor=1.0, spread=0.01):
    curve = tuple(Point(r, factor * 20 / r, factor * 20 / r * (1 - spread), factor * 20 / r * (1 + spread)) for r in RANKS)
    return Estimate(CLAIM, exponent, (exponent - half, exponent + half), 1 - 1e-8, curve, 100, "dense", data=DATA)


def measurement(exponent=-1.0, half=0.03, **changes):
    curve = tuple(Point(r, 7 / r, 6 / r, 8 / r) for r in RANKS)
    made = Measurement(CLAIM, exponent, (exponent - half, exponent + half), 1 - 1e-8, curve, ((1.0,),) * 32, "base")
    return replace(made, **changes)


def row(predicted=None, estimated=None, measured=None, headline=True):
    return judge(CLAIM, predicted=predicted, estimated=estimated, measured=measured, silent={}, headline=headline)


def without_interval(numeric, lo, hi, value=1.0):
    """The record where every point has this interval, so that no exponent of it exists."""
    return replace(numeric, exponent=None, interval=None, curve=tuple(Point(p.rank, value, lo, hi) for p in numeric.curve))


def test_three_agreeing_witnesses_confirm():
    found = row(prediction(), estimate(), measurement())
    assert (found.agreement, found.stability) == ("confirmed", "collapses")


@pytest.mark.parametrize(
    ("predicted", "estimated", "measured"),
    [
        (prediction(Fraction(-1, 2)), estimate(), measurement()),
        (prediction(), estimate(-0.5), measurement()),
        (prediction(), estimate(), measurement(-0.5)),
        (prediction(), estimate(factor=2.0), measurement()),
        (prediction(formula="40/r"), estimate(), measurement()),
        (prediction(), estimate(), measurement(controls=(Control("first order over real", 0.5, 1.0, 0.05),))),
        (prediction(), estimate(), measurement(bracket=(0.0, 0.5))),
        (prediction(), estimate(), without_interval(measurement(), -1.0, -0.5)),
        (prediction(), replace(estimate(), zero=True), measurement()),
    ],
    ids=["theory", "simulation", "training", "lost factor", "wrong formula", "control", "bracket", "sign", "zero"],
)
def test_each_witness_can_refute_alone(predicted, estimated, measured):
    assert row(predicted, estimated, measured).agreement == "refuted"


@pytest.mark.parametrize("make", [estimate, measurement])
def test_a_witness_that_cannot_tell_an_exponent_refutes_nothing_and_names_its_price(make):
    """Zero inside the points' intervals: 17 of 60 true claims were refuted for it."""
    records = {"estimated": estimate(), "measured": measurement()}
    records["estimated" if make is estimate else "measured"] = without_interval(make(), -1.0, 3.0)
    found = row(replace(prediction(), formula=None), **records)
    assert found.agreement == "inconclusive" and found.stability == "inconclusive"
    # Half-width 2 about 1 must shrink to 1/2: sixteen times the draws.
    assert "zero is not excluded" in found.reason and "some 16 times the" in found.reason


def test_a_magnitude_of_nought_has_no_price():
    found = row(replace(prediction(), formula=None), without_interval(estimate(), -1.0, 1.0, value=0.0), measurement())
    assert found.agreement == "inconclusive" and "no number of draws seen so far" in found.reason


def test_a_curve_through_zero_is_refuted_only_by_points_that_exclude_zero():
    foretold = prediction(formula="0*r")
    assert curve_agreement(foretold, without_interval(estimate(), -1.0, 3.0), 0.05).agreement == "inconclusive"
    assert curve_agreement(foretold, estimate(), 0.05).agreement == "refuted"


def test_wide_interval_is_inconclusive_and_names_its_price():
    found = row(prediction(), None, measurement(half=0.4))
    assert found.agreement == "inconclusive"
    assert "times the 32 draws would settle it" in found.reason


def test_price_follows_the_root_law():
    # Half-width 0.4 must shrink to 0.1: sixteen times the draws.
    assert "16.0 times" in draws_to_settle(measurement(half=0.4), (-1.0, -1.0), 0.1)


def test_one_witness_alone_confirms_nothing():
    assert row(prediction()).agreement == "inconclusive"
    assert row(None, estimate()).agreement == "inconclusive"


def test_numeric_witnesses_confirm_each_other_without_theory():
    assert row(None, estimate(), measurement()).agreement == "confirmed"
    assert row(None, estimate(), measurement(-0.5)).agreement == "refuted"


def test_a_bracket_never_confirms():
    assert row(prediction(), None, measurement(bracket=(-1.5, 0.0))).agreement == "inconclusive"
    assert row(prediction(), estimate(), measurement(bracket=(-1.5, 0.0))).agreement == "confirmed"


def test_a_control_that_holds_confirms_nothing():
    assert row(None, None, measurement(controls=(Control("ratio", 1.0, 1.0, 0.05),))).agreement == "inconclusive"


@pytest.mark.parametrize(
    ("interval", "answer"),
    [((-0.05, 0.05), "confirmed"), ((0.2, 0.3), "refuted"), ((0.05, 0.2), "inconclusive"), ((-1, 1), "inconclusive")],
)
def test_interval_agreement(interval, answer):
    assert interval_agreement(interval, -0.1, 0.1) == answer


@pytest.mark.parametrize(
    ("interval", "answer"),
    [((-0.09, 0.09), "stable"), ((-1.1, -0.9), "collapses"), ((0.4, 0.6), "explodes"), ((-0.2, 0.0), "inconclusive")],
)
def test_classify(interval, answer):
    assert classify(interval, 0.1) == answer


def test_stability_needs_all_witnesses():
    assert row(prediction(), estimate(), measurement(0.0)).stability == "inconclusive"


def test_outcome():
    good, context = row(prediction(), estimate(), measurement()), row(None, estimate(), headline=False)
    bad, open_ = row(prediction(), estimate(-0.5), None), row(prediction(), None, measurement(half=0.4))
    assert outcome([good, context]) == "holds"
    assert outcome([good, replace(bad, headline=False)]) == "does_not_hold"
    assert outcome([good, open_]) == "inconclusive"
    assert outcome([context]) == "inconclusive"
    assert outcome([]) == "inconclusive"


def test_expected_outcome():
    good, open_ = row(prediction(), estimate(), measurement()), row(prediction(), None, measurement(half=0.4))
    assert expected_outcome([good], "collapses") == "holds"
    assert expected_outcome([good], "stable") == "does_not_hold"
    assert expected_outcome([open_], "collapses") == "inconclusive"
    assert expected_outcome([], "stable") == "inconclusive"


def test_a_sentence_names_the_witness_that_was_measured():
    made = measurement(witness="PEFT's own layer", per_seed=(), drawn=7)
    assert made.draws == 7 and "PEFT's own layer minus Monte Carlo" in row(estimated=estimate(), measured=made).reason
    assert "PEFT's own layer [-1.030, -0.970] is inside -1" in row(predicted=prediction(), measured=made).reason
