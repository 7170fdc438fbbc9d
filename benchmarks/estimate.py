"""What a slope costs: in process, and as a whole command, beside what a user's script would spend on imports alone.

Run: python benchmarks/estimate.py   (some twenty seconds, alone on the machine). Medians of five alternating repeats.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

from _evidence import line, write

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.laws import Gaussian, Zero
from rsverify.montecarlo import estimate

LORA = Adapter("lora-gaussian", "o r, r i -> o i", B=Zero(), A=Gaussian("1/sqrt(i)"))
ASKED = {"ranks": "4:65536", "precision": 0.005, "samples": 8, "d_in": 512, "d_out": 16, "lr": 1e-4}
COMMAND = [
    str(Path(sys.executable).with_name("rsverify")), "estimate", "lora", "--init", "A=gaussian(std=1/sqrt(i))", "--ranks", "4:65536",
    "--precision", "0.005", "--samples", "8", "--d-in", "512", "--d-out", "16", "--lr", "1e-4",
]  # fmt: skip
OTHERWISE = {"import scipy.stats": "import numpy, scipy.stats", "import torch": "import torch"}


def spent(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began


def main() -> int:
    warm = estimate(LORA, "alpha/sqrt(r)", **ASKED)
    assert warm.interval is not None
    times: dict[str, list[float]] = {"slope": [], "command": [], **{name: [] for name in OTHERWISE}}
    for repeat in range(5):
        began = time.perf_counter()
        estimate(LORA, "alpha/sqrt(r)", seed=repeat + 1, **ASKED)
        times["slope"].append(time.perf_counter() - began)
        times["command"].append(spent(COMMAND))
        if repeat == 0:
            memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024  # kilobytes on Linux; only the command ran so far
        for name, code in OTHERWISE.items():
            times[name].append(spent([sys.executable, "-c", code]))
    median = {name: statistics.median(found) for name, found in times.items()}
    half = (warm.interval[1] - warm.interval[0]) / 2
    lines = [
        line("half-width of the exponent over 4..65536, level 1 - 1e-6", round(half, 5), "0.005", half <= 0.005),
        line("seconds in process", round(median["slope"], 4), "under 0.05", median["slope"] < 0.05),
        line("seconds as a whole command", round(median["command"], 3), "under 0.6", median["command"] < 0.6),
        line("megabytes of the command", round(memory, 1), "under 150", memory < 150),
    ]
    for name in OTHERWISE:
        ratio = median["command"] / median[name]
        lines.append(line(f"command over `{name}` alone, {median[name]:.2f} s", round(ratio, 3), "under 1", ratio < 1))
    return 0 if write("estimate", lines, **ASKED) else 1


if __name__ == "__main__":
    sys.exit(main())
