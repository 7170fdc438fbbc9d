"""Special functions against scipy, far out in the tails and at few and very many degrees of freedom."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import scipy.special
import scipy.stats

from rsverify.statistics.special import digamma, incomplete_beta, normal_tail, normal_upper, student_upper, trigamma


@pytest.mark.skipif(scipy.__version__.startswith("1.11."), reason="scipy 1.11 itself is wrong by some 1e-9: isf(0.4, 2) is 1 / sqrt(12)")
@pytest.mark.parametrize("freedom", [1, 1.5, 2, 5, 17.3, 31, 1000, 4999, 5001, 1e6, 1e9])
@pytest.mark.parametrize("tail", [0.4, 0.25, 0.05, 1e-3, 1e-6, 1e-9, 1e-12])
def test_student_quantiles(freedom: float, tail: float) -> None:
    # At 1e6 degrees scipy itself is good to some 1e-11; the continued fraction and the expansion are better than that.
    assert student_upper(tail, freedom) == pytest.approx(scipy.stats.t.isf(tail, freedom), rel=1e-10)


def test_normal_tails() -> None:
    for z in (-3.0, 0.0, 1.0, 5.0, 20.0, 35.0):
        assert normal_tail(z) == pytest.approx(scipy.stats.norm.sf(z), rel=1e-12)
    for tail in (0.7, 0.1, 1e-9, 1e-100):
        assert normal_upper(tail) == pytest.approx(scipy.stats.norm.isf(tail), rel=1e-12)


def test_incomplete_beta() -> None:
    for a in (0.5, 1, 3, 40, 500):
        for b in (0.5, 2, 30):
            for x in (0.0, 0.01, 0.3, 0.7, 0.99, 1.0):
                assert incomplete_beta(a, b, x) == pytest.approx(scipy.special.betainc(a, b, x), rel=1e-11, abs=1e-300)


def test_digamma_and_trigamma() -> None:
    x = np.logspace(-3, 8, 200)
    np.testing.assert_allclose(trigamma(x), scipy.special.polygamma(1, x), rtol=1e-13)
    # digamma has a zero near 1.46: there only the absolute error can be small.
    np.testing.assert_allclose(digamma(x), scipy.special.digamma(x), rtol=1e-13, atol=1e-14)


def test_intervals_load_no_scipy() -> None:
    code = "import sys; from rsverify.statistics import intervals; intervals.student_quantile(0.9, 7); print('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"
