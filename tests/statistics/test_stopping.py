"""The anytime-valid boundary: right at every look at once, where a fixed interval looked at again and again is not."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from rsverify.errors import InputError
from rsverify.statistics.intervals import student_quantile
from rsverify.statistics.stopping import Boundary, Watched
from rsverify.statistics.streams import stream

ERROR, PATHS, LENGTH = 0.1, 4000, 1500
FALSE_FAILURES = 1e-6


def ever_misses(half_width, draws: np.ndarray, truth: float, looks: np.ndarray) -> int:
    """Paths on which the interval excludes the truth at some look."""
    n = np.arange(1, draws.shape[1] + 1)
    mean = draws.cumsum(axis=1) / n
    # Centred at the truth before squaring: no cancellation.
    centred = draws - truth
    squares = (centred**2).cumsum(axis=1) - n * (mean - truth) ** 2
    spread = np.sqrt(np.maximum(squares, 0) / np.maximum(n - 1, 1))
    half = np.asarray([half_width(int(k)) for k in looks]) * spread[:, looks - 1]
    return int((np.abs(mean[:, looks - 1] - truth) > half).any(axis=1).sum())


LOOKS = np.arange(2, LENGTH + 1)


@pytest.mark.statistical
@pytest.mark.parametrize("tightest", [10, 300])
def test_the_boundary_holds_at_all_looks_at_once(tightest: int) -> None:
    """Missed at rate at most ERROR over all looks; and not by being wide: within this horizon it misses at over a third of that rate."""
    draws = 5 + 3 * stream(0, "stopping", tightest).standard_normal((PATHS, LENGTH))
    boundary = Boundary(ERROR, tightest)
    misses = ever_misses(lambda n: boundary.half_width(n, 1.0), draws, 5.0, LOOKS)
    assert scipy.stats.binom.sf(misses - 1, PATHS, ERROR) > FALSE_FAILURES
    assert misses > PATHS * ERROR / 3


@pytest.mark.statistical
@pytest.mark.parametrize(
    "naive",
    [
        pytest.param(lambda n: student_quantile(1 - ERROR, n - 1) / math.sqrt(n), id="a fixed interval at every look"),
        pytest.param(lambda n: Boundary(2 * ERROR, 300).half_width(n, 1.0), id="twice the error"),
        pytest.param(lambda n: Boundary(ERROR, 300).half_width(n, 1.0) / 1.2, id="a sixth too narrow"),
        pytest.param(
            lambda n: math.sqrt((n + (rho := Boundary(ERROR, 5).rho)) * math.log((n + rho) / (rho * ERROR**2))) / n,
            id="the normal's boundary with the sample's deviation",
        ),
    ],
)
def test_wrong_boundaries_are_noticed(naive) -> None:
    """Power of the test above: naive peeking, a wrong rate, a wrong constant, no allowance for the unknown variance."""
    draws = stream(0, "stopping", "mutants").standard_normal((PATHS, LENGTH))
    misses = ever_misses(naive, draws, 0.0, LOOKS)
    assert scipy.stats.binom.sf(misses - 1, PATHS, ERROR) < FALSE_FAILURES


@pytest.mark.statistical
def test_a_fixed_interval_peeked_at_misses_far_more_often_than_it_says() -> None:
    draws = stream(0, "stopping", "peeking").standard_normal((PATHS, LENGTH))
    once = ever_misses(lambda n: student_quantile(1 - ERROR, n - 1) / math.sqrt(n), draws, 0.0, np.asarray([LENGTH]))
    often = ever_misses(lambda n: student_quantile(1 - ERROR, n - 1) / math.sqrt(n), draws, 0.0, LOOKS)
    assert 0.08 < once / PATHS < 0.12
    assert often / PATHS > 0.5


def test_the_interval_is_where_the_martingale_has_not_crossed() -> None:
    """The closed form of the half-width solves M_n = 1 / error."""
    values, boundary = stream(0, "stopping", "martingale").standard_normal(40), Boundary(0.05, 25)
    rho, n = boundary.rho, len(values)
    for sign in (-1, 1):
        mu = values.mean() + sign * boundary.half_width(n, values.std(ddof=1))
        total, squares = (values - mu).sum(), ((values - mu) ** 2).sum()
        m = math.sqrt(rho / (n + rho)) * (squares / (squares - total**2 / (n + rho))) ** (n / 2)
        assert m == pytest.approx(1 / 0.05, rel=1e-10)


def test_many_draws_give_the_normal_mixture_boundary() -> None:
    boundary, n = Boundary(1e-6, 1e6), 10**7
    normal = math.sqrt((n + boundary.rho) * math.log((n + boundary.rho) / (boundary.rho * 1e-12))) / n
    assert boundary.half_width(n, 1.0) == pytest.approx(normal, rel=1e-4)


def test_no_other_choice_is_tighter_at_the_tightest_point() -> None:
    n = 10_000
    best = Boundary(1e-3, n).half_width(n, 1.0)
    for tightest in (n / 2, n / 1.1, n * 1.1, n * 2):
        assert Boundary(1e-3, tightest).half_width(n, 1.0) >= best * (1 - 1e-6)
    # The price of looking at any time: sqrt(w + 1) = 4.20 deviations at this rate, the fixed interval's 3.29.
    assert 1.25 < best * math.sqrt(n) / student_quantile(1 - 1e-3, n - 1) < 1.3


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=60), st.data())
def test_batches_do_not_matter(values: list[float], data) -> None:
    cut = data.draw(st.integers(0, len(values)))
    boundary = Boundary(0.01, 50)
    one, two = Watched(boundary), Watched(boundary)
    one.add(np.asarray(values))
    two.add(np.asarray(values[:cut]))
    two.add(np.asarray(values[cut:]))
    assert two.mean == pytest.approx(one.mean, abs=1e-9)
    # Squares of numbers up to 1e3, 60 of them: rounding of some 1e-16 * 6e7.
    assert two.squares == pytest.approx(one.squares, rel=1e-9, abs=1e-7)
    assert one.mean == pytest.approx(np.mean(values), abs=1e-9)


def test_a_design_reaches_its_half_width_and_few_values_promise_nothing() -> None:
    n = Boundary(1e-6, 100).draws_for(0.7, 0.02)
    assert Boundary(1e-6, n).half_width(n, 0.7) <= 0.02 < Boundary(1e-6, n).half_width(round(n / 1.1), 0.7)
    assert Boundary(1e-6, 100).half_width(2, 1.0) == math.inf and Watched(Boundary(0.1, 10)).half == math.inf
    watched = Watched(Boundary(0.05, 100))
    watched.add(stream(0, "stopping", "price").standard_normal(50))
    price = watched.price(0.05)
    assert price > 50 and watched.boundary.half_width(price, watched.spread) <= 0.05


@pytest.mark.parametrize("arguments", [{"error": 0.0}, {"error": 1.0}, {"error": math.nan}, {"tightest": 0}, {"tightest": math.nan}])
def test_what_makes_no_boundary_is_refused(arguments) -> None:
    with pytest.raises(InputError, match="error=|tightest="):
        Boundary(**{"error": 0.1, "tightest": 10, **arguments})
    with pytest.raises(InputError, match="at least two values"):
        Watched(Boundary(0.1, 10)).price(0.1)
