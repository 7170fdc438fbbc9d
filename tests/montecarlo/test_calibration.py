"""`calibrate`: a right procedure keeps its promises, and broken ones are seen."""

from __future__ import annotations

import dataclasses

import pytest
import scipy.stats

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.laws import Gaussian, Zero
from rsverify.errors import InputError
from rsverify.montecarlo import exponent
from rsverify.montecarlo.calibration import calibrate
from rsverify.statistics.intervals import share_interval

GAUSSIAN = Adapter("lora-gaussian", "o r, r i -> o i", B=Zero(), A=Gaussian("1/sqrt(i)"))
ASKED = {"ranks": tuple(4**k for k in range(1, 9)), "precision": 0.02, "d_in": 5, "d_out": 3}


@pytest.mark.statistical
def test_the_procedure_keeps_its_promises() -> None:
    """The small version of the benchmark: 400 repeats; coverage within 93 to 97 % up to the error of 400, at rate 1e-6."""
    found = calibrate(GAUSSIAN, "alpha/r", repeats=400, **ASKED)
    assert found.holds and found.truth == -1 and found.systematic == 0 and found.engine == "gram"
    hits = found.coverage.hits
    assert scipy.stats.binom.cdf(hits, 400, 0.93) > 5e-7 and scipy.stats.binom.sf(hits - 1, 400, 0.97) > 5e-7
    assert found.failed.hits == found.passed.hits == 0
    assert abs(found.bias) < 5 * found.deviation / 20


@pytest.mark.statistical
@pytest.mark.parametrize("broken", ["intervals at half their width", "three times as wide", "a biased reading", "a truth that is not"])
def test_broken_promises_are_seen(monkeypatch, broken: str) -> None:
    more = {}
    half_width, fit = exponent.Fit.half_width, exponent.Fit.__init__
    if broken == "a truth that is not":
        more = {"truth": -1.2}
    elif broken == "a biased reading":
        monkeypatch.setattr(exponent.Fit, "__init__", lambda self, e, *rest: fit(self, e + 0.003, *rest))
    else:
        factor = 0.5 if "half" in broken else 3.0
        monkeypatch.setattr(exponent.Fit, "half_width", lambda self, level: factor * half_width(self, level))
    found = calibrate(GAUSSIAN, "alpha/r", repeats=300, **ASKED, **more)
    assert not found.holds


def test_without_a_truth_nothing_is_calibrated() -> None:
    with pytest.raises(InputError, match="no truth to hold the repeats against"):
        calibrate("lora", "alpha/r", quantity="loss_decrease", repeats=20, ranks=(4, 8, 16), d_in=2, d_out=2, precision=5.0)
    for bad in ({"repeats": 0}, {"repeats": 2.5}, {"level": 1.0}):
        with pytest.raises(InputError, match="expected"):
            calibrate(GAUSSIAN, "alpha/r", **{**ASKED, **bad})


@pytest.mark.parametrize(("hits", "trials"), [(0, 20), (20, 20), (3, 50), (1900, 2000)])
def test_intervals_of_shares_are_those_of_scipy(hits: int, trials: int) -> None:
    exact = scipy.stats.binomtest(hits, trials).proportion_ci(0.99, method="exact")
    assert share_interval(hits, trials, 0.99) == pytest.approx((exact.low, exact.high), abs=1e-12)
    with pytest.raises(InputError):
        share_interval(5, 4, 0.9)


def test_a_calibration_is_a_record() -> None:
    found = calibrate(GAUSSIAN, "alpha/r", repeats=20, **ASKED)
    assert dataclasses.replace(found) == found and found == calibrate(GAUSSIAN, "alpha/r", repeats=20, **ASKED)
