"""`rv.plot`: what is drawn is what the records say, on the reader's own axes."""

import subprocess
import sys

import numpy as np
import pytest

import rsverify as rv
from rsverify.errors import InputError
from rsverify.records import Claim, Estimate, Measurement, Point, Prediction

CLAIM = Claim("lora", "B=zero", "alpha/r", "sgd", "update", "rms", "aligned", "rank", 1)


def estimate(claim=CLAIM, sign=1.0, **more):
    curve = tuple(Point(r, sign * 8 / r, *sorted((sign * 7 / r, sign * 9 / r))) for r in (4, 8, 16))
    return Estimate(claim, -1.0, (-1.01, -0.99), 0.99, curve, 100, "gram", **more)


def drawn(axes):
    """Points of every error bar: (ranks, values, low ends, high ends)."""
    found = []
    for container in axes.containers:
        line, _, (bars,) = container
        x, y = line.get_data()
        ends = np.array([segment[:, 1] for segment in bars.get_segments()])
        found.append((list(x), np.asarray(y), ends[:, 0], ends[:, 1]))
    return found


@pytest.fixture
def axes():
    from matplotlib.figure import Figure

    return Figure().subplots()


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_points_and_intervals_are_those_of_the_record(axes, sign):
    assert rv.plot(estimate(sign=sign), axes=axes) is axes
    ((ranks, values, low, high),) = drawn(axes)
    assert ranks == [4, 8, 16]
    np.testing.assert_allclose(values, [2, 1, 0.5])
    np.testing.assert_allclose(low, values * 7 / 8)
    np.testing.assert_allclose(high, values * 9 / 8)
    assert axes.get_legend().get_texts()[0].get_text() == "simulated, r**-1.000 ± 0.010"


def test_a_measurement_beside_an_estimate_makes_both_relative(axes):
    measured = Measurement(CLAIM, -1.0, (-1.1, -0.9), 0.9, tuple(Point(r, 800 / r, 700 / r, 900 / r) for r in (4, 8)), ((1, 1),), "base")
    rv.plot(estimate(), measured, axes=axes)
    assert all(values[0] == 1 for _, values, _, _ in drawn(axes))
    assert "relative" in axes.get_ylabel()
    assert [text.get_text().split(",")[0] for text in axes.get_legend().get_texts()] == ["simulated", "measured"]


def test_a_prediction_is_drawn_by_its_formula_on_the_data_of_the_estimate(axes):
    derived = rv.derive("lora", "alpha/r", optimizer="sgd")
    data = {"d_in": 4, "d_out": 3, "alpha": 2.0, "lr": 0.5, "x_norm2": 4.0, "v_norm2": 1.0, "S22": 4.0}
    rv.plot(estimate(derived.claim, data=data), derived, axes=axes)
    line = next(line for line in axes.get_lines() if len(line.get_xdata()) == 100)
    wanted = derived.at([4, 16], d_in=4, d_out=3, alpha=2.0, lr=0.5, x_norm2=4.0, v_norm2=1.0, S22=4.0)
    np.testing.assert_allclose(np.asarray(line.get_ydata())[[0, -1]], wanted)


def test_the_legend_names_only_what_differs(axes):
    other = Claim("lora", "B=zero", "alpha/sqrt(r)", "sgd", "update", "rms", "aligned", "rank", 1)
    rv.plot(estimate(), estimate(other), Prediction(CLAIM, -1), axes=axes)
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert sorted(label.partition(" ")[0] for label in labels) == ["alpha/r", "alpha/r", "alpha/sqrt(r)"]


def test_what_cannot_be_drawn_is_refused(axes):
    with pytest.raises(InputError, match="a str came"):
        rv.plot("lora", axes=axes)
    with pytest.raises(InputError, match="nothing to plot"):
        rv.plot(estimate(zero=True), axes=axes)
    with pytest.raises(InputError, match="nothing to plot"):
        rv.plot(axes=axes)


def test_a_picture_leaves_the_readers_backend_alone():
    """Reports once switched matplotlib to svg for everybody, so that later pictures of a notebook stayed away."""
    code = (
        "import matplotlib; matplotlib.use('agg'); import rsverify as rv; import rsverify.report.estimate_figure, rsverify.report.plotting;"
        "from rsverify.report.phase import draw, phase_diagram; draw(phase_diagram(rv.solve('lora', optimizer='sgd')));"
        "assert matplotlib.get_backend() == 'agg', matplotlib.get_backend()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
