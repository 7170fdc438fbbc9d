"""The paper's pictures, drawn from the evidence at every build: legible in grey, and to readers who tell few colours apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from paper.naming import Load
from paper.naming.dichotomy import update
from paper.naming.reproduce import number, table
from rsverify.studies.reproduce.drawing import COLOURS, MARKERS, WIDTH, log_ranks, plain, svg

LORA, RSLORA = 0, 1
LABELS = ("alpha/r (LoRA)", "alpha/sqrt(r) (rsLoRA)")


def panels(columns: int, *, height: float = 2.5, width: float = 6.6) -> tuple[Any, Any]:
    """An empty figure as wide as the text, and its axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def curve(axes: Any, x: Any, y: Any, which: int, *, label: str | None = None, **more: Any) -> None:
    """A rule's curve: its colour, its marker, its kind of line."""
    style = {"color": COLOURS[which], "marker": MARKERS[which], "linestyle": ("-", "--")[which], "markersize": 4.5, "linewidth": 1.2}
    axes.plot(x, y, label=LABELS[which] if label is None else label, **{**style, **more})


def columns(rows: list[list[str]], *which: int) -> list[np.ndarray]:
    """Numbers of a table's columns, rows without a rank left out."""
    kept = [row for row in rows if number(row[0]) is not None]
    return [np.array([np.nan if (v := number(row[k])) is None else v for row in kept]) for k in which]


def beyond(axes: Any, ranks: np.ndarray) -> None:
    """Shade the ranks above the base's width."""
    if ranks.max() > WIDTH:
        axes.axvspan(WIDTH, ranks.max() * 1.3, color="#000000", alpha=0.06, linewidth=0)


def dichotomy(read: Load) -> Any:
    """Simulated exponents of the update with their intervals, for every optimizer and both rules."""
    data = read("dichotomy")
    optimizers = [name for name, regimes in data["optimizers"].items() if "silent" not in regimes["rank"]]
    figure, (axes,) = panels(1, height=0.23 * len(optimizers) + 0.75)
    for which, rule in enumerate(data["rules"]):
        for place, optimizer in enumerate(reversed(optimizers)):
            row, y = update(data["rows"], optimizer, rule), place + (0.14, -0.14)[which]
            derived = data["optimizers"][optimizer]["rank"]["exponents"][rule]
            axes.plot([_value(derived)] * 2, [y - 0.3, y + 0.3], color="#000000", linewidth=1.8, solid_capstyle="butt", zorder=1)
            if row["estimated"] is not None:
                value, (low, high) = row["estimated"]["exponent"], row["estimated"]["interval"]
                axes.errorbar(
                    value, y, xerr=[[value - low], [high - value]], color=COLOURS[which], marker=MARKERS[which], markersize=4,
                    markerfacecolor=(COLOURS[which], "white")[which], linestyle="none", capsize=2.5, linewidth=1.1, zorder=3,
                    label=LABELS[which] + ", simulated" if place == 0 else None,
                )  # fmt: skip
    axes.plot([], [], color="#000000", linewidth=2.2, label="derived")
    axes.axvspan(-0.1, 0.1, color="#000000", alpha=0.07, linewidth=0)
    axes.set_yticks(range(len(optimizers)), list(reversed(optimizers)))
    axes.set_ylim(-0.6, len(optimizers) - 0.4)
    axes.set_xlabel("exponent in r of the first step's update, at a learning rate free of r")
    axes.grid(True, axis="x", linewidth=0.3, alpha=0.6)
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, 1.12), ncols=3, frameon=False)
    return figure


def gradient(read: Load) -> Any:
    """The gradient norm at init against rank, and the powers that theory gives."""
    figures = {it["name"]: it for it in read("reproduce")["figures"]}
    figure, (axes, other) = panels(2)
    rows = table(figures, "gradient-norm")["rows"]
    ranks, *norms = columns(rows, 0, 1, 2)
    told = figures["gradient-norm"]["foretold_numbers"]
    for which, (values, power) in enumerate(zip(norms, (told["alpha/r"], told["alpha/sqrt(r)"]), strict=True)):
        curve(axes, ranks, values, which)
        axes.plot(ranks, values[0] * (ranks / ranks[0]) ** _value(power), color=COLOURS[which], linestyle=":", linewidth=1)
    axes.plot([], [], color="#444444", linestyle=":", label="power derived")
    axes.set_ylabel("gradient norm at init")
    away = table(figures, "limit")["rows"]
    ranks_, smallest, median, largest = columns(away, 0, 1, 2, 3)
    other.fill_between(ranks_, smallest, largest, color=COLOURS[2], alpha=0.18, linewidth=0, label="all modules")
    other.plot(ranks_, median, color=COLOURS[2], marker="^", markersize=4.5, linewidth=1.2, label="median")
    approach = _value(figures["limit"]["foretold_numbers"]["approach"])
    other.plot(ranks_, median[0] * (ranks_ / ranks_[0]) ** approach, color="#444444", linestyle=":", linewidth=1, label="power derived")
    other.set_ylabel("distance to full fine-tuning")
    for it in (axes, other):
        log_ranks(it)
        it.legend(fontsize=7.5, frameon=False)
    beyond(axes, ranks)
    return figure


def perplexity(read: Load) -> Any:
    """Held-out perplexity against rank: at one learning rate, and with each rule at its own best."""
    figures = {it["name"]: it for it in read("reproduce")["figures"]}
    figure, (left, right) = panels(2)
    # The last table of each is on the seeds that all ranks have: seeds differ in their data.
    ranks, *at_one = columns(table(figures, "perplexity", -1)["rows"], 0, 1, 2)
    ranks_, lora, rslora = columns(table(figures, "control", -1)["rows"], 0, 2, 4)
    for axes, where, pair in ((left, ranks, at_one), (right, ranks_, (lora, rslora))):
        for which, values in enumerate(pair):
            curve(axes, where, values, which)
        log_ranks(axes, y=False)
        beyond(axes, where)
        axes.set_ylabel("held-out perplexity")
    low = min(np.nanmin(v) for v in (*at_one, lora, rslora))
    high = max(np.nanmax(v) for v in (*at_one, lora, rslora))
    for axes in (left, right):
        axes.set_ylim(low - 0.06 * (high - low), high + 0.06 * (high - low))
    left.set_title("one learning rate for all", fontsize=9)
    right.set_title("each rank and rule at its best learning rate", fontsize=9)
    left.legend(fontsize=7.5, frameon=False)
    return figure


def optimum(read: Load) -> Any:
    """The best learning rate against rank beside the power of the first step, and the exponents with their intervals."""
    figures = {it["name"]: it for it in read("reproduce")["figures"]}
    figure, (axes, other) = panels(2, height=2.3)
    ranks, lora, rslora = columns(table(figures, "control")["rows"], 0, 1, 3)
    told = figures["control"]["foretold_numbers"]
    for which, (values, power) in enumerate(((lora, told["alpha/r"]), (rslora, told["alpha/sqrt(r)"]))):
        curve(axes, ranks, values, which)
        axes.plot(ranks, values[0] * (ranks / ranks[0]) ** _value(power), color=COLOURS[which], linestyle=":", linewidth=1)
    axes.plot([], [], color="#444444", linestyle=":", label="power of the first step")
    log_ranks(axes)
    beyond(axes, ranks)
    axes.set_ylabel("best learning rate")
    axes.legend(fontsize=7.5, frameon=False)
    parts = {
        which: next(p for p in figures["control"]["parts"] if p["says"].startswith(start))
        for which, start in enumerate(("LoRA: exponent in r of the best lr", "rsLoRA: exponent in r of the best lr"))
    }
    for which, part in parts.items():
        if part["mean"] is not None:
            mean, (low, high) = part["mean"], part["interval"]
            other.errorbar(
                mean, 1 - which, xerr=[[mean - low], [high - mean]], color=COLOURS[which], marker=MARKERS[which], markersize=5,
                markerfacecolor=(COLOURS[which], "white")[which], capsize=3, linestyle="none", linewidth=1.2,
            )  # fmt: skip
        target = _value(part["theory"])
        other.plot([target] * 2, [0.75 - which, 1.25 - which], color="#000000", linewidth=2.2)
        other.fill_betweenx([0.75 - which, 1.25 - which], *part["region"], color="#000000", alpha=0.1, linewidth=0)
    other.set_yticks([1, 0], ["LoRA", "rsLoRA"])
    other.set_ylim(-0.6, 1.6)
    other.set_xlabel("exponent in r of the best rate")
    other.grid(True, axis="x", linewidth=0.3, alpha=0.6)
    return figure


def calibration(read: Load) -> Any:
    """Coverage found over all repeats beside what was promised."""
    from paper.naming import all_names

    rows = all_names(read).tables["calibration"]
    figure, (axes,) = panels(1, height=1.35)
    for place, (setting, nominal, found, (low, high)) in enumerate(reversed(rows)):
        axes.plot([nominal] * 2, [place - 0.25, place + 0.25], color="#000000", linewidth=2.2, label="promised" if place == 0 else None)
        axes.errorbar(
            found, place, xerr=[[found - low], [high - found]], color=COLOURS[0], marker="o", markersize=4.5, capsize=3, linestyle="none",
            linewidth=1.2, label="found" if place == 0 else None,
        )  # fmt: skip
        del setting
    axes.set_yticks(range(len(rows)), [row[0] for row in reversed(rows)])
    axes.set_ylim(-0.5, len(rows) - 0.5)
    axes.set_xlabel("share of intervals that hold the truth")
    axes.grid(True, axis="x", linewidth=0.3, alpha=0.6)
    axes.legend(fontsize=8, frameon=False, loc="lower center", ncols=2)
    return figure


def _value(text: str | None) -> float:
    top, _, bottom = str(text).partition("/")
    return float(top) / float(bottom or 1)


PICTURES: dict[str, Callable[[Load], Any]] = {
    "dichotomy": dichotomy, "gradient": gradient, "perplexity": perplexity, "optimum": optimum, "calibration": calibration,
}  # fmt: skip


def draw(read: Load) -> dict[str, str]:
    """Every picture as SVG text."""
    return {name: svg(picture(read)) for name, picture in PICTURES.items()}


__all__ = ["PICTURES", "draw", "plain"]
