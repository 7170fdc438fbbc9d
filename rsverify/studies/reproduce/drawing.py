"""What the pictures share: panels of curves by rank, magnitudes against rank."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rsverify.studies.reproduce.plan import WIDTH, Plan
from rsverify.studies.reproduce.runs import Family, Results, finite

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#56B4E9")
MARKERS = "os^Dvp"


def panels(columns: int, rows: int = 1, *, height: float = 3.2) -> tuple[Any, Any]:
    """An empty figure and its axes, (rows, columns)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.3 * columns, height * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def rank_colours(ranks: Sequence[int]) -> dict[int, Any]:
    from matplotlib import colormaps

    return {rank: colormaps["viridis"](0.92 * k / max(1, len(ranks) - 1)) for k, rank in enumerate(ranks)}


def curves(axes: Any, plan: Plan, results: Results, family: Family, *, curve: str, title: str, log: bool = True) -> None:
    """One curve a rank: the mean of loss (as perplexity) or another record against the step, over the seeds that all ranks have.

    Seeds differ in their data: a rank run on fewer would otherwise stand apart for that alone.
    """
    ranks = results.ranks(family)
    runs = {rank: results.runs(family, rank) for rank in ranks}
    shared = [seed for seed in plan.all_seeds if all(seed in found for found in runs.values())]
    for rank, colour in rank_colours(ranks).items():
        found = [finite(runs[rank][seed][curve]) for seed in shared]
        mean = np.mean(found, axis=0)
        if curve == "loss":
            mean = np.exp(np.minimum(smoothed(mean), math.log(256)))
        axes.plot(mean, color=colour, linewidth=1.3, linestyle="--" if rank > WIDTH else "-", label=f"r = {rank}")
    if log:
        axes.set_yscale("log")
        plain(axes.yaxis)
    axes.set_title(f"{title}, {len(shared)} seeds", fontsize=10)
    axes.set_xlabel("step")
    axes.grid(True, linewidth=0.3, alpha=0.6)


def smoothed(values: np.ndarray) -> np.ndarray:
    """The mean over the last steps up to each, a tenth of the run: single batches differ more than ranks do."""
    window = max(1, len(values) // 10)
    return np.array([np.mean(values[max(0, t - window + 1) : t + 1]) for t in range(len(values))])


def against_rank(
    axes: Any,
    ranks: Sequence[float],
    values: Mapping[int, Sequence[float | None]],
    *,
    label: str,
    index: int,
    exponent: float | None = None,
) -> None:
    """Each seed's values as points, their mean as a line; a dotted line of the foretold power from the first mean."""
    colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
    table = np.array([[np.nan if v is None else v for v in row] for row in values.values()], dtype=float)
    mean = np.nanmean(table, axis=0)
    axes.plot(ranks, mean, color=colour, marker=marker, markersize=4, linewidth=1.2, label=label)
    for row in table:
        axes.plot(ranks, row, color=colour, marker=".", markersize=3, linestyle="none", alpha=0.5)
    if exponent is not None:
        axes.plot(ranks, mean[0] * (np.array(ranks) / ranks[0]) ** exponent, color=colour, linestyle=":", linewidth=1)


def log_ranks(axes: Any, *, y: bool = True) -> None:
    """Logarithmic ranks (and values), with numbers written out."""
    axes.set_xscale("log", base=2)
    plain(axes.xaxis)
    if y:
        axes.set_yscale("log")
        plain(axes.yaxis)
    axes.set_xlabel("rank r")
    axes.grid(True, linewidth=0.3, alpha=0.6)


def log_rates(axes: Any) -> None:
    """Logarithmic learning rates, named twice a decade: a sweep spans one to three."""
    from matplotlib.ticker import LogLocator

    log_ranks(axes)
    axes.set_xscale("log", base=10)
    plain(axes.xaxis)
    axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1, 3)))
    axes.set_xlabel("learning rate")


def plain(axis: Any) -> None:
    """Numbers as people write them: powers set as mathematics take long to draw."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}" if 1e-4 <= abs(value) < 1e5 else f"{value:.0e}"))
    low, high = sorted(axis.get_view_interval())
    if axis.axis_name == "y" and low > 0 and high < 30 * low:
        axis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7)))
    axis.set_minor_formatter(NullFormatter())


def svg(figure: Any) -> str:
    """The picture as SVG text, the same bytes for the same numbers."""
    import io

    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "rsverify", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
