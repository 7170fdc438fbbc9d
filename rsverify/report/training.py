"""Curves of a training run by rank: a table for the terminal, a CSV of every step, a figure."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from rsverify.files.writing import write_whole
from rsverify.report.writing import as_label

QUANTITIES = {"loss": "loss", "gradient_norm": "gradient norm", "output_rms": "adapter output (rms)"}
COLUMNS = ("adapter", "init", "rank", "rule", "alpha", "gamma", "optimizer", "lr", "seed", "draw", "data")


def summary_table(data: Mapping[str, Any], *, steps: int) -> Table:
    """One line for each rank, rule, optimizer and learning rate: means over draws at the first and last step done. Fits 80 columns."""
    kinds = _kinds(data)
    some_diverged = any(c["diverged"] is not None for c in data["configurations"])
    table = Table(
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        caption="Means over draws; loss and gradient norm at the first and last step.",
    )
    for heading in ("rank", "rule", "optimizer, lr", "steps", "loss", "gradient norm", "output", *(["diverged"] if some_diverged else [])):
        table.add_column(heading, justify="left" if heading in ("rule", "optimizer, lr") else "right", overflow="fold")
    for (rank, rule, optimizer, lr), members in kinds.items():
        done = min(c["steps"] for c in members)
        at = tuple(dict.fromkeys((0, max(done - 1, 0))))
        curves = [" ".join(_mean(members, name, step) for step in at) for name in ("loss", "gradient_norm")]
        gone = sum(c["diverged"] is not None for c in members)
        table.add_row(
            str(rank), rule, f"{optimizer}, {lr:g}", f"{done}/{steps}", *curves, _mean(members, "output_rms", at[-1]),
            *([f"{gone} of {len(members)}" if gone else ""] if some_diverged else []),
        )  # fmt: skip
    return table


def write_csv(data: Mapping[str, Any], path: Path) -> None:
    """Every step of every configuration, one a line; what is not finite is left empty."""
    table = io.StringIO(newline="")
    writer = csv.writer(table)
    writer.writerow(["configuration", *COLUMNS, "step", *QUANTITIES, "diverged"])
    for i, c in enumerate(data["configurations"]):
        for step in range(c["steps"]):
            values = [c[name][step] for name in QUANTITIES]
            gone = c["diverged"] is not None and step >= c["diverged"]
            writer.writerow([i, *(c[name] for name in COLUMNS), step, *("" if v is None else v for v in values), int(gone)])
    write_whole(path, table.getvalue(), name="csv")


def write_figure(data: Mapping[str, Any], path: Path) -> None:
    """Loss, gradient norm and adapter output against the step: a colour for each rank, a panel row for each rule, optimizer and lr."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    kinds = _kinds(data)
    rows = list(dict.fromkeys(key[1:] for key in kinds))
    ranks = sorted({key[0] for key in kinds})
    colours = {rank: colormaps["viridis"](k / max(len(ranks) - 1, 1) * 0.9) for k, rank in enumerate(ranks)}
    figure = Figure(figsize=(12, 3 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), len(QUANTITIES), squeeze=False)
    for (rank, *row), members in kinds.items():
        for k, (name, words) in enumerate(QUANTITIES.items()):
            panel = axes[rows.index(tuple(row))][k]
            for i, c in enumerate(members):
                points = [(step, v) for step, v in enumerate(c[name]) if v is not None and (name == "loss" or v > 0)]
                panel.plot(*zip(*points, strict=True) if points else ([], []), color=colours[rank], label=f"r = {rank}" if not i else None)
            panel.set_ylabel(words)
            panel.set_xlabel("step")
            panel.set_title(as_label(f"{row[0]}, {row[1]}, lr {row[2]:g}"), fontsize=9)
            if name != "loss" and panel.lines and any(len(line.get_xdata()) for line in panel.lines):
                panel.set_yscale("log")
    axes[0][0].legend(fontsize=7)
    picture = io.BytesIO()
    figure.savefig(picture, dpi=110, format="png")
    write_whole(path, picture.getvalue())


def _kinds(data: Mapping[str, Any]) -> dict[tuple[Any, ...], list[Any]]:
    found: dict[tuple[Any, ...], list[Any]] = {}
    for c in data["configurations"]:
        found.setdefault((c["rank"], c["rule"], c["optimizer"], c["lr"]), []).append(c)
    return found


def _mean(members: list[Any], name: str, at: int) -> str:
    values = [c[name][at] for c in members if at < len(c[name]) and c[name][at] is not None]
    return f"{sum(values) / len(values):.3g}" if values else "-"
