"""The clerk: results.json reads back unchanged, the page stands alone, the words say what the numbers say."""

import json
import re
from dataclasses import replace
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import pytest

from rsverify.errors import InputError
from rsverify.expressions import Expression
from rsverify.records import Claim, Estimate, Measurement, Point, Prediction, Verdict
from rsverify.report.page import page
from rsverify.report.provenance import provenance
from rsverify.report.results import as_results, from_results, read_results, write_results
from rsverify.report.words import meaning, notes
from rsverify.verdict import expected_outcome, judge

RANKS = (4, 8, 16, 32)


def _row(optimizer: str, quantity: str, exponent: Fraction, statistic: str = "rms"):
    claim = Claim("lora", "B=zero", "alpha/sqrt(r)", optimizer, quantity, statistic, steps=int(quantity != "gradient_norm"))
    e = float(exponent)
    curve = tuple(Point(r, r**e, r**e * 0.99, r**e * 1.01) for r in RANKS)
    predicted = Prediction(claim, exponent, formula=Expression(f"r**({exponent})"))
    estimated = Estimate(claim, e, (e - 0.01, e + 0.01), 0.999, curve, 50, "dense", data={"d_in": 8.0, "d_out": 6.0})
    measured = Measurement(claim, e, (e - 0.02, e + 0.02), 0.999, curve, ((1.0,) * 4,) * 32, "base", marked=(32,))
    return judge(claim, predicted=predicted, estimated=estimated, measured=measured, silent={"other": "no"}, headline=True)


@pytest.fixture
def verdict() -> Verdict:
    rows = (_row("adamw", "gradient_norm", Fraction(0), "frobenius"), _row("adamw", "update", Fraction(1, 2)))
    return Verdict("holds", True, rows, provenance(seed=3, hashes={"text": "ab"}, settings={"alpha": 20}), "Q?", "S.", notes(rows))


def test_results_read_back_unchanged(verdict, tmp_path):
    write_results(verdict, tmp_path / "results.json")
    assert read_results(tmp_path / "results.json") == verdict
    assert not list(tmp_path.glob("*.part"))


def test_results_have_the_contracts_fields(verdict):
    data = as_results(verdict)
    assert data["schema"] == "rsverify/1"
    assert {"complete", "verdict", "provenance", "rows"} <= data.keys()
    asked = "adapter init rule optimizer quantity statistic probe regime steps ranks headline predicted estimated measured silent"
    asked += " margin stability agreement reason"
    for row in data["rows"]:
        assert set(asked.split()) <= row.keys()
        assert {"exponent", "exact"} <= row["predicted"].keys()
        assert {"exponent", "interval", "level"} <= row["estimated"].keys()
    assert data["rows"][1]["predicted"]["exponent"] == "1/2"
    assert from_results(json.loads(json.dumps(data))) == verdict


@pytest.mark.parametrize("text", ["", "{", '{"schema": "rsverify/9"}'])
def test_bad_results_are_refused(tmp_path, text):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(InputError):
        read_results(tmp_path / "results.json")
    with pytest.raises(InputError, match="No such file"):
        read_results(tmp_path / "none.json")


def test_page_stands_alone(verdict):
    html = page(verdict, command="rsverify verify")
    assert html.count("<svg") == 2
    assert "<script" not in html
    assert not re.findall(r'(?:src|href)="(?!#)[^"]+"', html)
    assert "HOLDS" in html
    assert "do not contradict each other" in html


def test_page_escapes_a_rule_from_outside(verdict):
    assert "<img" not in page(Verdict("holds", True, verdict.rows, verdict.provenance, "<img src=x>", "S."), command="<img>")


def test_provenance_names_no_person_and_no_place(verdict):
    text = json.dumps(as_results(verdict)["provenance"])
    assert str(Path.home()) not in text
    origin = find_spec("rsverify").origin
    assert origin is not None
    assert str(Path(origin).parent) not in text


def test_meaning_says_the_factor():
    assert "grows 4-fold" in meaning(_row("adamw", "update", Fraction(1, 2)))
    assert "shrinks 16-fold" in meaning(_row("sgd", "update", Fraction(-1)))
    assert "keeps its size" in meaning(_row("sgd", "update", Fraction(0)))


def _bracketed(power: float, bracket=(-0.5, 0.0)):
    row = _row("sgd", "update", Fraction(0))
    curve = tuple(Point(r, r**power, r**power * 0.99, r**power * 1.01) for r in RANKS)
    measured = replace(row.measured, exponent=power, interval=(power - 0.02, power + 0.02), curve=curve, bracket=bracket)
    return judge(row.claim, predicted=row.predicted, estimated=row.estimated, measured=measured, silent={}, headline=True)


def test_a_bracket_leaves_the_word_to_the_measurement():
    row = _bracketed(-0.22)
    assert row.agreement == "confirmed" and row.stability == "collapses"  # theory and simulation agree, of a layer; the block says its own
    assert "shrinks 1.84-fold, where theory has a bracket only, from r**(-1/2) to r**0" in meaning(row)
    assert _bracketed(0.01).stability == "stable" and _bracketed(-0.1).stability == "inconclusive"
    assert "<pattern" in page(Verdict("holds", True, (row,), provenance(seed=3, hashes={}, settings={}), "Q?", "S."), command="x")
    fixed = _row("sgd", "update", Fraction(0), "projection")
    assert expected_outcome([row, fixed], "stable") == "holds" and expected_outcome([row], "stable") == "does_not_hold"


def test_a_sentence_tells_what_was_found_and_never_a_prediction():
    row = _row("adamw", "update", Fraction(1, 2))
    simulated = replace(row.estimated, exponent=0.45, interval=(0.44, 0.46))
    off = judge(row.claim, predicted=row.predicted, estimated=simulated, measured=None, silent={}, headline=True)
    assert "grows 3.48-fold" in meaning(off)
    alone = judge(row.claim, predicted=row.predicted, estimated=None, measured=None, silent={}, headline=True)
    assert meaning(alone).startswith("By theory alone, from rank 16 to 256")
    ranged = replace(row.predicted, exponent=None, exponent_range=(Fraction(1, 4), Fraction(1, 2)), formula=None)
    told = judge(row.claim, predicted=ranged, estimated=row.estimated, measured=None, silent={}, headline=True)
    assert "from r**(1/4) to r**(1/2)" in meaning(told)


def test_no_note_where_nothing_seems_to_contradict():
    assert notes((_row("sgd", "gradient_norm", Fraction(0), "frobenius"), _row("sgd", "update", Fraction(0)))) == ()
    pair = _row("adamw", "gradient_norm", Fraction(0), "frobenius"), _row("adamw", "update", Fraction(1, 2))
    assert "grow as r**(1/2), and" in notes(pair)[0] and notes(pair)[0].endswith("falls as r**(-1/2).")
