"""One estimate as a picture: the curve with its intervals, and the power that was read from it; matplotlib is loaded here alone."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from rsverify.files.writing import write_whole
from rsverify.records import Estimate
from rsverify.report.figures import plain_log_axes, points
from rsverify.report.writing import as_label

INK, POWER = "#0072B2", "#D55E00"  # Okabe and Ito: told apart by colour-blind readers


def draw(found: Estimate, path: Path) -> None:
    """Write the picture in the format of the path's suffix.

    Raises: InputError where the file cannot be written.
    """
    figure = Figure(figsize=(6.4, 4.4))
    axes = figure.add_axes((0.14, 0.13, 0.83, 0.77))
    claim = found.claim
    ranks, size = (np.array(column, dtype=float) for column in zip(*((p.rank, abs(p.value)) for p in found.curve), strict=True))
    if (size > 0).all():
        points(axes, found.curve, INK, "o", filled=True, relative=False)
        axes.plot([], [], color=INK, marker="o", linestyle="none", label="simulated")
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
    axes.set_title(as_label(f"{claim.adapter}, {claim.rule}, {claim.optimizer}, steps {claim.steps}"), fontsize=10)
    metadata = {"svg": {"Date": None, "Creator": None}, "pdf": {"CreationDate": None}}.get(path.suffix[1:], {})
    picture = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "rsverify"}):
        figure.savefig(picture, format=path.suffix[1:], metadata=metadata, dpi=150)
    write_whole(path, picture.getvalue(), name="out")
