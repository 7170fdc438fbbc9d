"""Log-log pictures of a verdict: predicted curve, points with intervals, margin band; as SVG text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from rsverify.records import Row
from rsverify.report.writing import as_label, svg_text

# Okabe and Ito's colours: told apart by colour-blind readers, and each with its own marker for greyscale.
STYLES = (("#0072B2", "o", "-"), ("#D55E00", "s", "--"), ("#009E73", "^", "-."), ("#CC79A7", "D", ":"), ("#000000", "v", "-"))


def curves(rows: Sequence[Row], *, margin: float) -> str:
    """One picture for the rows of one quantity: magnitude over its value at the smallest rank, against rank.

    The legend stands below: beside the axes it would leave a phone no room for either.

    Each witness is drawn relative to its own smallest rank, because a transformer's magnitudes and a layer's have
    different units; the band is the predicted power within the margin, or, hatched, the bracket where theory has no more.
    """
    figure = Figure(figsize=(5.4, 4.5))
    # Fixed margins: an automatic layout draws everything several times.
    axes = figure.add_axes((0.15, 0.33, 0.83, 0.65))
    spoke: dict[str, bool] = {}
    for index, row in enumerate(rows):
        colour, marker, line = STYLES[index % len(STYLES)]
        label = as_label(f"{row.claim.optimizer}, {row.claim.rule}")
        ranks = _ranks(row)
        if not ranks:
            continue
        base = float(ranks[0])
        x = np.geomspace(ranks[0], ranks[-1], 100)
        if row.predicted is not None and row.predicted.exponent is not None:
            curve = _predicted(row, x)
            axes.fill_between(x, curve * (x / base) ** -margin, curve * (x / base) ** margin, color=colour, alpha=0.12, linewidth=0)
            axes.plot(x, curve, color=colour, linestyle=line, linewidth=1.2)
            label += f" (predicted {row.predicted.exponent})"
        if (bracket := bracket_of(row)) is not None:
            band(axes, x, bracket, colour)
            label += f" (bracket {bracket[0]:g} to {bracket[1]:g})"
        axes.plot([], [], color=colour, linestyle=line, marker=marker, markersize=5, linewidth=1.2, label=label)
        if row.estimated is not None and not row.estimated.zero:
            points(axes, row.estimated.curve, colour, marker, filled=True)
            spoke["Monte Carlo"] = True
        if row.measured is not None and not row.measured.zero:
            points(axes, row.measured.curve, colour, marker, filled=False)
            spoke["transformer"] = False
    plain_log_axes(axes)
    axes.set_xlabel("rank r")
    axes.set_ylabel("relative to the smallest rank")
    axes.grid(True, which="major", linewidth=0.4, alpha=0.5)
    for witness, filled in spoke.items():
        axes.plot([], [], color="#444444", linestyle="none", marker="o", markerfacecolor="#444444" if filled else "white", label=witness)
    axes.legend(fontsize=9, loc="upper center", bbox_to_anchor=(0.44, -0.2), ncols=2, frameon=False)
    return svg_text(figure)


def bracket_of(row: Row) -> tuple[float, float] | None:
    """The powers between which theory leaves a row, of the measurement or of the prediction; None where it does not."""
    if row.measured is not None and row.measured.bracket is not None:
        return row.measured.bracket
    if row.predicted is not None and row.predicted.exponent_range is not None:
        return float(row.predicted.exponent_range[0]), float(row.predicted.exponent_range[1])
    return None


def band(axes: Any, x: np.ndarray, bracket: tuple[float, float], colour: str, *, start: float = 1.0) -> None:
    """The curves of every power in a bracket, from one point on."""
    lower, upper = (start * (x / x[0]) ** power for power in bracket)
    axes.fill_between(x, lower, upper, facecolor="none", edgecolor=colour, alpha=0.35, hatch="//", linewidth=0)


def plain_log_axes(axes: Any) -> None:
    """Logarithmic axes, ranks to base 2, with numbers written out: powers set as mathematics take as long as all else in a picture."""
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}" if 1e-4 <= value < 1e6 else f"{value:.0e}"))
        axis.set_minor_formatter(NullFormatter())
    low, high = axes.get_ylim()
    if high < 100 * low:  # so few decades have few powers of ten to write
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))


def _predicted(row: Row, x: np.ndarray) -> np.ndarray:
    """The predicted curve over its first value: the formula at finite rank on the simulated data, or the bare power."""
    predicted, estimated = row.predicted, row.estimated
    assert predicted is not None and predicted.exponent is not None
    if predicted.formula is None or estimated is None:
        return (x / x[0]) ** float(predicted.exponent)
    data: dict[str, Any] = {key: value for key, value in estimated.data.items() if key not in ("d_in", "d_out")}
    curve = predicted.at(x.tolist(), d_in=int(estimated.data["d_in"]), d_out=int(estimated.data["d_out"]), **data)
    return curve / curve[0]


def points(axes: object, curve: Sequence[object], colour: str, marker: str, *, filled: bool, relative: bool = True) -> None:
    """A curve's points that are not zero with their intervals, by size; over the first of them where `relative`."""
    ranks, values, los, his = (np.array(column, dtype=float) for column in zip(*(tuple(p) for p in curve), strict=True))  # type: ignore[arg-type]
    keep = values != 0
    if not keep.any():
        return
    ranks, sizes, signs = ranks[keep], np.abs(values[keep]), np.sign(values[keep])
    unit = sizes[0] if relative else 1.0
    ends = np.sort(np.stack((los[keep], his[keep])) * signs, axis=0)
    # An end beyond zero is cut at the axis.
    errors = np.stack((sizes - np.maximum(ends[0], sizes * 1e-3), ends[1] - sizes)) / unit
    errors = np.where(np.isfinite(errors), np.maximum(errors, 0), 0)
    face = colour if filled else "white"
    axes.errorbar(  # type: ignore[attr-defined]
        ranks, sizes / unit, errors, fmt=marker, color=colour, markerfacecolor=face, markersize=5, capsize=2, linewidth=0.9
    )


def _ranks(row: Row) -> list[int]:
    found: set[int] = set()
    for witness in (row.estimated, row.measured):
        if witness is not None:
            found.update(witness.ranks)
    return sorted(found)
