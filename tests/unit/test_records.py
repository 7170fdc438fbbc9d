"""Records go to JSON and back unchanged, and no file ever holds a NaN."""

from __future__ import annotations

import json
import math
from dataclasses import fields, is_dataclass
from fractions import Fraction
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsverify import records as rec
from rsverify.errors import InputError
from rsverify.expressions import Expression
from rsverify.records import (
    CheckResult,
    Claim,
    Control,
    Estimate,
    Measurement,
    Point,
    Prediction,
    Provenance,
    Row,
    StableScaling,
    Verdict,
    dumps,
    loads,
    parse_probe,
)

CLAIM = Claim("lora", "B=zero, A=gaussian(std=1)", "alpha/r", "adamw:eps=0.001", "gradient:B", "frobenius", "cosine:0.5", "width", 3)
HALF = Fraction(1, 2)
PREDICTION = Prediction(
    CLAIM,
    -HALF,
    HALF,
    Expression("gamma*sqrt(r*(r + d_in + 1))"),
    False,
    "O(1/r)",
    False,
    (Fraction(-1), HALF),
    ((Fraction(1), Fraction(0), HALF), (Fraction(2), Fraction(1), Fraction(-7, 3))),
    Expression("alpha/r"),
    ("one", "two"),
    signs=("D21",),
    flat_formula=Expression("gamma*r"),
)
CONTROL = Control("autograd", 1.0, 1.25, 0.5)
POINTS = (Point(4, 1.0, 0.5, 1.5), Point(2**40, 0.1, -math.inf, math.inf))
ESTIMATE = Estimate(CLAIM, -0.5, (-0.6, -0.4), 1 - 1e-9, POINTS, 64, "dense", 0.01, False, {"d_in": 48.0}, ("note",))
MEASURED = Measurement(
    CLAIM, None, None, 0.99, POINTS, ((1.0, 2.0), (3.0, math.inf)), "base", (2**40,), (-1.0, 0.0), zero=True, data={"lr": 0.1},
    controls=(CONTROL,), notes=("n",), witness="a library's layer", drawn=5,
)  # fmt: skip
ROW = Row(CLAIM, True, PREDICTION, ESTIMATE, MEASURED, {"training": "no torch"}, 0.1, "stable", "confirmed", "because", "use it")
PROVENANCE = Provenance(
    "0.1.0", "3.11", {"numpy": "2"}, "linux", "cpu", 7, "abc", {"text": "00"}, {"ranks": [4, 8], "deep": {"a": [1.5, None, True]}}, "now"
)
EVERY = [
    CLAIM,
    PREDICTION,
    Prediction(CLAIM, None, zero=True),
    *POINTS,
    CONTROL,
    ESTIMATE,
    Estimate(CLAIM, None, None, 0.5, (), 0, "none", zero=True),
    MEASURED,
    ROW,
    Row(CLAIM, False, None, None, None, {}, 0.1, "inconclusive", "inconclusive", ""),
    PROVENANCE,
    Provenance("", "", {}, "", "", 0),
    Verdict("holds", True, (ROW, ROW), PROVENANCE, "q", "s"),
    Verdict("inconclusive", False, (), PROVENANCE, notes=("n",)),
    CheckResult("merge", "xfailed", "known", "Boom", 0.5),
    CheckResult("merge", "passed"),
    StableScaling("lora", "sgd", "update", HALF, "unique", ((Fraction(2), Fraction(1), Fraction(1)),)),
    StableScaling("lora", "muon", "update", None, "interval", (), (HALF, None), ("why",)),
]


@pytest.mark.parametrize("record", EVERY, ids=lambda record: type(record).__name__)
def test_every_record_comes_back_equal(record) -> None:
    text = dumps(record)
    assert loads(type(record), text) == record
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))


def test_every_record_class_is_tried_above() -> None:
    rooms = [room for room in vars(rec).values() if isinstance(room, ModuleType) and room.__name__.startswith(f"{rec.__name__}.")]
    classes = {
        value
        for room in rooms
        for value in vars(room).values()
        if isinstance(value, type) and is_dataclass(value) and value.__module__ == room.__name__
    }
    assert all(getattr(rec, value.__name__) is value for value in classes), "every record is one of the folder's names"
    assert classes == {type(record) for record in EVERY}


def test_every_field_is_tried_away_from_its_default() -> None:
    for cls in {type(record) for record in EVERY}:
        mine = [record for record in EVERY if type(record) is cls]
        for field in fields(cls):
            assert any(getattr(record, field.name) != field.default for record in mine), (cls, field.name)


fractions = st.fractions(max_denominator=1000)
floats = st.floats(allow_nan=False)


@given(fractions, fractions, st.lists(st.tuples(fractions, fractions, fractions)), st.sampled_from([None, "1/r", "sqrt(r) + d_in"]))
def test_predictions_come_back_equal(exponent, log_exponent, terms, formula) -> None:
    formula = None if formula is None else Expression(formula)
    record = Prediction(CLAIM, exponent, log_exponent, formula, terms=tuple(terms))
    assert loads(Prediction, dumps(record)) == record


@given(
    st.lists(st.tuples(st.integers(1, 2**100), floats, floats, floats)),
    floats,
    st.dictionaries(st.text(), floats),
    st.lists(st.lists(floats)),
)
def test_measurements_come_back_equal(points, exponent, data, per_seed) -> None:
    curve = tuple(Point(*point) for point in points)
    record = Measurement(CLAIM, exponent, (exponent, math.inf), 0.9, curve, tuple(map(tuple, per_seed)), "m", data=data)
    assert loads(Measurement, dumps(record)) == record


def test_a_nan_is_a_text_in_the_file_and_a_nan_again_when_read() -> None:
    text = dumps(Point(4, math.nan, -math.inf, math.inf))
    assert json.loads(text, parse_constant=lambda name: pytest.fail(name)) == {"rank": 4, "value": "nan", "lo": "-inf", "hi": "inf"}
    assert math.isnan(loads(Point, text).value)


def test_numpy_scalars_are_plain_numbers_in_the_file() -> None:
    text = dumps({"a": np.float32(0.5), "b": np.int64(3), "c": np.float64(math.nan), "d": np.bool_(True)})
    assert json.loads(text) == {"a": 0.5, "b": 3, "c": "nan", "d": True}


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"quantity": "updat"}, "did you mean 'update'"),
        ({"statistic": "rsm"}, "did you mean 'rms'"),
        ({"regime": "depth"}, "known are rank"),
        ({"steps": -1}, "steps=-1"),
        ({"steps": 1.5}, "steps=1.5"),
        ({"steps": True}, "steps=True"),
        ({"probe": "cosine:2"}, "probe='cosine:2'"),
        ({"probe": "cosine:x"}, "expected aligned"),
        ({"probe": "cosine:nan"}, "expected aligned"),
        ({"probe": "sideways"}, "expected aligned"),
    ],
)
def test_a_claim_refuses_what_cannot_be_meant(changed, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        Claim("lora", "", "alpha/r", "sgd", **changed)


def test_probes_are_cosines() -> None:
    assert [parse_probe(text) for text in ("aligned", "orthogonal", "cosine:-0.25")] == [1.0, 0.0, -0.25]
    assert CLAIM.cosine == 0.5 and CLAIM.factor == "B" and Claim("lora", "", "r", "sgd").factor is None


def test_a_prediction_gives_numbers_at_ranks() -> None:
    claim = Claim("lora", "", "alpha/r", "sgd")
    prediction = Prediction(claim, Fraction(-1), formula=Expression("gamma**2*lr*r*x_norm2/d_in"), rule=Expression("alpha/r"))
    np.testing.assert_allclose(prediction.at([2, 8], d_in=48, d_out=32, alpha=3.0), [4.5, 1.125])
    np.testing.assert_allclose(prediction.at([2, 8], d_in=48, d_out=32, gamma=[1, 2], x_norm2=24.0), [1, 16])
    assert str(prediction.expression) == "gamma**2*lr*r*x_norm2/d_in"
    constant = Prediction(claim, Fraction(0), formula=Expression("1"))
    assert constant.at([2, 4, 8], d_in=4, d_out=4).tolist() == [1, 1, 1]
    with pytest.raises(InputError, match="the formula needs kurtosis"):
        Prediction(claim, None, formula=Expression("kurtosis*r")).at([1], d_in=4, d_out=4)
    with pytest.raises(InputError, match="no formula at finite rank"):
        Prediction(claim, Fraction(0)).at([1], d_in=4, d_out=4)


def test_exit_codes() -> None:
    assert [Verdict(outcome, True, (), PROVENANCE).exit_code for outcome in ("holds", "does_not_hold", "inconclusive")] == [0, 1, 3]
    assert Verdict("holds", True, (ROW,), PROVENANCE).stability == ("stable",)
    assert Verdict("holds", True, (ROW,), PROVENANCE).agreement == ("confirmed",)


def test_the_lr_that_makes_a_rule_stable() -> None:
    lora_sgd = StableScaling("lora", "sgd", "update", HALF, "unique", ((Fraction(2), Fraction(1), Fraction(1)),))
    assert lora_sgd.lr_exponent(HALF) == 0 and lora_sgd.lr_exponent(1) == 1
    no_lr = StableScaling("lora", "sgd", "gradient_norm", HALF, "unique", ((Fraction(1), HALF, Fraction(0)),))
    assert no_lr.lr_exponent(HALF) is None
