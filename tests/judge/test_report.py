"""The clerk: results.json reads back unchanged, the page stands alone, the words say what the numbers say."""

import json
import re
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
from rsverify.verdict import judge

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
    with pytest.raises(InputError, match="does not exist"):
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


def test_no_note_where_nothing_seems_to_contradict():
    assert notes((_row("sgd", "gradient_norm", Fraction(0), "frobenius"), _row("sgd", "update", Fraction(0)))) == ()
    pair = _row("adamw", "gradient_norm", Fraction(0), "frobenius"), _row("adamw", "update", Fraction(1, 2))
    assert "grow as r**(1/2), and" in notes(pair)[0] and notes(pair)[0].endswith("falls as r**(-1/2).")
