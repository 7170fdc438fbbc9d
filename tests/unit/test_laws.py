"""Laws: their exact moments against integration and against their own draws."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import integrate

from rsverify.definitions.laws import Constant, Gaussian, KaimingUniform, Law, Orthonormal, Uniform, Zero, frozen, rescaled
from rsverify.errors import AdapterError
from rsverify.expressions import Expression
from rsverify.statistics.intervals import normal_quantile
from rsverify.statistics.streams import stream

SIZES = {"r": 4, "i": 9, "o": 25}
INDEPENDENT = [Zero(), Constant(2), Gaussian(), Uniform(), KaimingUniform(), frozen(Gaussian(std="1/r"))]
FALSE_FAILURES = 1e-6
"""Of each sampled test of this file as a whole, over fresh seeds."""


def ids(law: Law) -> str:
    return law.text()


@pytest.mark.parametrize("order", range(13))
def test_standard_moments_are_the_integrals(order: int) -> None:
    normal, _ = integrate.quad(lambda z: z**order * math.exp(-(z**2) / 2) / math.sqrt(2 * math.pi), -40, 40, limit=400, epsabs=1e-12)
    flat, _ = integrate.quad(lambda z: z**order / 2, -1, 1)
    assert float(Gaussian().standard_moment(order)) == pytest.approx(normal, rel=1e-9, abs=1e-9)
    assert float(Uniform().standard_moment(order)) == pytest.approx(flat, rel=1e-9, abs=1e-12)
    assert KaimingUniform().standard_moment(order) == Uniform().standard_moment(order) == frozen(Uniform()).standard_moment(order)
    assert Constant(7).standard_moment(order) == 1 and Zero().standard_moment(order) == int(order == 0)
    assert all(isinstance(law.standard_moment(order), Fraction) for law in INDEPENDENT)


@pytest.mark.statistical
@pytest.mark.parametrize("law", INDEPENDENT, ids=ids)
def test_draws_have_the_moments_that_theory_uses(law: Law) -> None:
    draws, orders = 100_000, (1, 2, 3, 4)
    z = law.standard_draw(stream(0, "test", law.text()), (draws,))
    # Normal intervals: at 1e5 draws the skewness of z**4 moves the tail by far less than the margin added here.
    quantile = 1.2 * normal_quantile(1 - FALSE_FAILURES / (len(orders) * len(INDEPENDENT)))
    for order in orders:
        mean, square = law.standard_moment(order), law.standard_moment(2 * order)
        half = quantile * math.sqrt(max(float(square - mean**2), 0.0) / draws)
        assert abs((z**order).mean() - float(mean)) <= half + 1e-12, order


def test_the_sampled_test_would_notice_the_other_law() -> None:
    """Power: at 1e5 draws the variance of a normal is told from one that is 5 % off."""
    half = 1.2 * normal_quantile(1 - FALSE_FAILURES / 24) * math.sqrt(2 / 100_000)
    assert half < 0.05


@pytest.mark.parametrize(
    ("law", "cumulants"),
    [
        (Gaussian(), (0, 0, 1, 0, 0, 0, 0)),
        (Uniform(), (0, 0, Fraction(1, 3), 0, Fraction(-2, 15), 0, Fraction(16, 63))),
        (Constant(3), (0, 1, 0, 0, 0, 0, 0)),
        (Zero(), (0, 0, 0, 0, 0, 0, 0)),
    ],
    ids=["gaussian", "uniform", "constant", "zero"],
)
def test_cumulants_are_the_known_ones(law: Law, cumulants) -> None:
    assert tuple(law.standard_cumulant(order) for order in range(7)) == cumulants


@pytest.mark.parametrize(
    ("law", "scale"),
    [
        (Zero(), 0),
        (Constant("1/r"), 0.25),
        (Constant(0.1), 0.1),
        (Gaussian(std="1/sqrt(i)"), 1 / 3),
        (Gaussian(std=0.02), 0.02),
        (Gaussian(), 1),
        (Uniform(bound="sqrt(3/o)"), math.sqrt(3) / 5),
        (KaimingUniform(fan_in="i"), 1 / 3),
        (KaimingUniform(fan_in="r"), 0.5),
        (Orthonormal(gain="2/r"), 0.5),
        (frozen(KaimingUniform(fan_in="o")), 0.2),
        (Gaussian(std=Expression("i/r")), 2.25),
        (Gaussian(1e-5), 1e-5),
    ],
    ids=lambda value: str(value),
)
def test_spreads_follow_the_sizes(law: Law, scale: float) -> None:
    assert law.scale(SIZES) == pytest.approx(scale, rel=1e-15)
    drawn, standard = law.draw(stream(1, "spread"), (4, 9), SIZES), law.standard_draw(stream(1, "spread"), (4, 9))
    np.testing.assert_allclose(drawn, standard * scale, rtol=1e-14)
    assert drawn.dtype == np.float64 and drawn.shape == (4, 9)


@pytest.mark.statistical
def test_kaiming_uniform_is_what_torch_draws() -> None:
    import torch

    weight = torch.nn.init.kaiming_uniform_(
        torch.empty(200, 50, dtype=torch.float64), a=math.sqrt(5), generator=torch.Generator().manual_seed(0)
    )
    bound = KaimingUniform(fan_in="i").scale({"i": 50})
    # P(no entry of 10**4 beyond 0.99 of the bound) = 0.99**10000 < 1e-43.
    assert 0.99 * bound < weight.abs().max().item() <= bound


@pytest.mark.parametrize("shape", [(3, 8), (8, 3), (5, 5), (6, 3, 8), (2, 6, 8, 3)])
def test_orthonormal_factors_are_orthonormal(shape: tuple[int, ...]) -> None:
    q = Orthonormal(gain=2).draw(stream(0, "orthonormal"), shape, {})
    rows, columns = shape[-2:]
    gram = q @ np.swapaxes(q, -1, -2) if rows <= columns else np.swapaxes(q, -1, -2) @ q
    np.testing.assert_allclose(gram, np.broadcast_to(4 * np.eye(min(rows, columns)), gram.shape), atol=1e-13)


@pytest.mark.statistical
def test_orthonormal_entries_have_mean_zero_and_the_stated_variance() -> None:
    """QR without the signs of its triangle fails here: its diagonal keeps one sign."""
    draws = 20_000
    q = Orthonormal().standard_draw(stream(0, "haar"), (draws, 3, 5))
    # Entries are bounded by 1 (Hoeffding), 15 means and 15 mean squares.
    half = math.sqrt(2 * math.log(2 * 30 / FALSE_FAILURES) / draws)
    assert np.abs(q.mean(0)).max() < half and np.abs((q**2).mean(0) - 1 / 5).max() < half


def test_orthonormal_entries_are_not_independent_and_say_so() -> None:
    assert not Orthonormal().independent and not frozen(Orthonormal()).independent and Gaussian().independent
    with pytest.raises(AdapterError, match="dependent"):
        Orthonormal().standard_moment(2)


def test_frozen_changes_nothing_but_training() -> None:
    law = frozen(Gaussian(std="1/r"))
    assert not law.trainable and Gaussian().trainable
    assert law.spread == Expression("1/r") and law.text() == "frozen(gaussian(std=1/r))" and str(law) == law.text()
    assert frozen(law) is law
    np.testing.assert_array_equal(law.draw(stream(0, "f"), (3, 3), SIZES), Gaussian(std="1/r").draw(stream(0, "f"), (3, 3), SIZES))


@pytest.mark.parametrize(
    "law",
    [Constant("1/r"), Gaussian(0.5), Uniform("1/i"), KaimingUniform("i"), Orthonormal(2), Zero(), frozen(KaimingUniform("r"))],
    ids=ids,
)
def test_rescaled_multiplies_every_draw(law: Law) -> None:
    other = rescaled(law, "sqrt(r) + 1")
    np.testing.assert_allclose(other.draw(stream(0, "s"), (4, 9), SIZES), 3 * law.draw(stream(0, "s"), (4, 9), SIZES), rtol=1e-14)
    assert other.trainable == law.trainable
    if law.independent:
        assert [other.standard_moment(k) for k in range(7)] == [law.standard_moment(k) for k in range(7)]


def test_a_spread_without_a_finite_value_is_refused_with_the_sizes() -> None:
    with pytest.raises(AdapterError, match=r"gaussian\(std=exp\(r\)\) has spread inf, .* at {'r': 1000}"):
        Gaussian(std="exp(r)").scale({"r": 1000})
