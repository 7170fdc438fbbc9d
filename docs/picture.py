"""Draws the picture of the README, docs/_static/verdict.svg: `python docs/picture.py`."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
import numpy as np

import rsverify as rv

RANKS = [4, 16, 64, 256, 1024]
STYLES = {"alpha/r": ("#D55E00", "--", "s"), "alpha/sqrt(r)": ("#0072B2", "-", "o")}


def draw(path: Path) -> None:
    matplotlib.rcParams.update({"svg.hashsalt": "rsverify", "font.size": 10, "svg.fonttype": "path"})
    figure, panels = plt.subplots(1, 2, figsize=(8.4, 3.4), sharey=True, layout="constrained")
    for panel, optimizer in zip(panels, ("sgd", "adamw"), strict=True):
        for rule, (colour, dashes, mark) in STYLES.items():
            estimate = rv.estimate("lora", rule, optimizer=optimizer, ranks=RANKS, seed=0)
            prediction = rv.derive("lora", rule, optimizer=optimizer)
            names = ("d_in", "d_out", "alpha", "lr")
            curve = prediction.at(RANKS, **{name: estimate.data[name] for name in names})
            seen = np.array([[point.value, point.value - point.lo, point.hi - point.value] for point in estimate.curve]).T
            scale = curve[RANKS.index(16)]
            label = f"{rule}: r**({prediction.exponent})"
            panel.plot(RANKS, curve / scale, dashes, color=colour, label=label)
            panel.errorbar(RANKS, seen[0] / scale, yerr=seen[1:] / scale, fmt=mark, color=colour, mfc="white", capsize=3)
        panel.set(xscale="log", yscale="log", xlabel="rank r", title=f"one step of {optimizer}")
        panel.set_xticks(RANKS, [str(r) for r in RANKS])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
        panel.legend(frameon=False)
    panels[0].set_ylabel("update / update at rank 16")
    panels[0].set_yticks([0.01, 0.1, 1, 10], ["0.01", "0.1", "1", "10"])
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    draw(Path(__file__).parent / "_static" / "verdict.svg")
