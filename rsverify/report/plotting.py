"""Estimates, measurements and predictions in one picture on the reader's own axes: `rv.plot`."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

from rsverify.errors import InputError
from rsverify.records import Claim, Estimate, Measurement, Prediction
from rsverify.report.figures import STYLES, band, plain_log_axes, points
from rsverify.report.writing import as_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot(*found: Estimate | Measurement | Prediction, axes: Axes | None = None, relative: bool | None = None) -> Axes:
    """Magnitudes against rank on logarithmic axes: estimates filled, measurements open, each with its intervals; predictions as lines.

    What speaks of the same claim has one colour and marker, and the legend names only what tells the claims apart. A prediction is
    drawn over the ranks of the others, by its formula on their data where it has one, else by its power from the first of their points.

    Args:
        axes: where to draw; by default a new figure of pyplot.
        relative: divide each curve by its value at its smallest rank; by default where measurements stand beside estimates, whose
            units differ.
    Returns: the axes, to go on with.
    Raises: InputError where there is nothing with a curve to draw, or a record of another kind.
    """
    for record in found:
        if not isinstance(record, Estimate | Measurement | Prediction):
            raise InputError(f"plot draws estimates, measurements and predictions; a {type(record).__name__} came")
    seen = [record for record in found if not isinstance(record, Prediction) and record.curve and not record.zero]
    if not seen:
        raise InputError("nothing to plot: give at least one estimate or measurement whose curve does not vanish")
    if relative is None:
        relative = len({type(record) for record in seen}) > 1
    if axes is None:
        import matplotlib.pyplot as plt

        _, axes = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
    claims = list(dict.fromkeys(record.claim for record in found))
    labels = [as_label(label) for label in _labels(claims)]
    for record in found:
        at = claims.index(record.claim)
        colour, marker, line = STYLES[at % len(STYLES)]
        if isinstance(record, Prediction):
            _line(axes, record, seen, relative=relative, color=colour, linestyle=line, label=f"{labels[at]} derived".strip())
        elif record in seen:
            filled = isinstance(record, Estimate)
            points(axes, record.curve, colour, marker, filled=filled, relative=relative)
            if isinstance(record, Measurement) and record.bracket is not None:
                x = np.geomspace(record.ranks[0], record.ranks[-1], 100)
                band(axes, x, record.bracket, colour, start=1.0 if relative else abs(record.curve[0].value))
            label = f"{labels[at]} {'simulated' if filled else 'measured'}{_power(record)}".strip()
            axes.plot([], [], color=colour, marker=marker, linestyle="none", markerfacecolor=colour if filled else "white", label=label)
    plain_log_axes(axes)
    axes.set_xlabel("rank r")
    axes.set_ylabel(as_label(_said(claims)) + (", relative to its smallest rank" if relative else ""))
    axes.grid(True, which="major", linewidth=0.4, alpha=0.5)
    axes.legend(fontsize=9, frameon=False)
    return axes


def _line(axes: Axes, prediction: Prediction, seen: list[Any], *, relative: bool, **style: Any) -> None:
    """A prediction over the ranks seen of its claim, or of all where nothing else speaks of it."""
    beside = [record for record in seen if record.claim == prediction.claim] or seen
    ranks = sorted({rank for record in beside for rank in record.ranks})
    x = np.geomspace(ranks[0], ranks[-1], 100)
    host = next((record for record in beside if isinstance(record, Estimate) and {"d_in", "d_out", "lr"} <= record.data.keys()), None)
    if prediction.formula is not None and host is not None:
        data: dict[str, Any] = {name: value for name, value in host.data.items() if name not in ("d_in", "d_out")}
        curve = prediction.at(x.tolist(), d_in=int(host.data["d_in"]), d_out=int(host.data["d_out"]), **data)
    elif prediction.exponent is not None:
        curve = abs(beside[0].curve[0].value) * (x / x[0]) ** float(prediction.exponent)
    elif prediction.exponent_range is not None:
        ends = float(prediction.exponent_range[0]), float(prediction.exponent_range[1])
        start = 1.0 if relative else abs(beside[0].curve[0].value)
        band(axes, x, ends, style["color"], start=start)
        axes.plot([], [], linewidth=1.2, **style)
        return
    else:
        raise InputError(f"the prediction of {prediction.claim.quantity} vanishes: it has no line")
    axes.plot(x, curve / curve[0] if relative else curve, linewidth=1.2, **style)


def _power(record: Estimate | Measurement) -> str:
    if record.exponent is None or record.interval is None:
        return ""
    return f", r**{record.exponent:+.3f} ± {(record.interval[1] - record.interval[0]) / 2:.3f}"


def _labels(claims: list[Claim]) -> list[str]:
    """What tells each claim from the others; nothing where there is one."""
    differ = [field.name for field in fields(Claim) if len({getattr(claim, field.name) for claim in claims}) > 1]
    return [", ".join(f"steps {claim.steps}" if name == "steps" else str(getattr(claim, name)) for name in differ) for claim in claims]


def _said(claims: list[Claim]) -> str:
    kinds = dict.fromkeys(f"{claim.quantity} ({claim.statistic})" for claim in claims)
    return ", ".join(kinds)
