"""One estimate as a picture: the curve with its intervals, and the power that was read from it; matplotlib is loaded here alone."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("svg")

import numpy as np
from matplotlib.figure import Figure

from rsverify.errors import InputError
from rsverify.records import Estimate
from rsverify.report.figures import plain_log_axes

INK, POWER = "#0072B2", "#D55E00"  # Okabe and Ito: told apart by colour-blind readers


def draw(found: Estimate, path: Path) -> None:
    """Write the picture in the format of the path's suffix.

    Raises: InputError where the file cannot be written.
    """
    figure = Figure(figsize=(6.4, 4.4))
    axes = figure.add_axes((0.14, 0.13, 0.83, 0.77))
    claim = found.claim
    ranks, values, los, his = (np.array(column, dtype=float) for column in zip(*(tuple(p) for p in found.curve), strict=True))
    size = np.abs(values)
    if (size > 0).all():
        # A signed component is drawn by its size; an end beyond zero is cut at the axis.
        ends = np.sort(np.stack((los, his)) * np.sign(values), axis=0)
        errors = np.stack((size - np.maximum(ends[0], size * 1e-3), ends[1] - size))
        errors = np.where(np.isfinite(errors), np.maximum(errors, 0), 0)
        axes.errorbar(ranks, size, errors, fmt="o", color=INK, markersize=5, capsize=2, linewidth=0.9, label="simulated")
        if found.exponent is not None and found.interval is not None:
            x = np.geomspace(ranks[0], ranks[-1], 100)
            middle = size[-1] * (x / ranks[-1]) ** found.exponent
            low, high = (size[-1] * (x / ranks[-1]) ** end for end in found.interval)
            axes.fill_between(x, np.minimum(low, high), np.maximum(low, high), color=POWER, alpha=0.2, linewidth=0)
            axes.plot(x, middle, color=POWER, linewidth=1.2, label=f"r**({found.exponent:+.4f}), the limit")
        axes.legend(frameon=False, fontsize=9)
        plain_log_axes(axes)
    axes.set_xlabel("rank r")
    axes.set_ylabel(f"{claim.quantity} ({claim.statistic})")
    axes.grid(True, which="major", linewidth=0.4, alpha=0.5)
    axes.set_title(f"{claim.adapter}, {claim.rule}, {claim.optimizer}, steps {claim.steps}", fontsize=10)
    metadata = {"svg": {"Date": None, "Creator": None}, "pdf": {"CreationDate": None}}.get(path.suffix[1:], {})
    try:
        with matplotlib.rc_context({"svg.hashsalt": "rsverify"}):
            figure.savefig(path, format=path.suffix[1:], metadata=metadata, dpi=150)
    except OSError as error:
        raise InputError(f"out={str(path)!r} cannot be written ({error.strerror})") from None
