"""Do estimates mean what they say? Against the exact finite-rank curve for 1 to 8 steps; coverage and both error rates over 2,000 repeats.

Run: python benchmarks/calibration.py [repeats]   (a few minutes on one core). Nothing here is timed.
"""

from __future__ import annotations

import math
import sys

import numpy as np
from _evidence import line, write

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.claims import setting
from rsverify.definitions.laws import Gaussian, Zero
from rsverify.montecarlo import Budget, estimate
from rsverify.montecarlo.calibration import calibrate
from rsverify.montecarlo.curve import magnitude
from rsverify.montecarlo.engines import sampler_for
from rsverify.montecarlo.exponent import coefficients
from rsverify.montecarlo.problem import make_problem
from rsverify.montecarlo.samplers import Task
from rsverify.statistics.intervals import slope_weights

LORA = Adapter("lora-gaussian", "o r, r i -> o i", B=Zero(), A=Gaussian("1/sqrt(i)"))
N, D, P, ALPHA, SEED = 8, 512, 16, 20.0, 0
RANKS = tuple(4**k for k in range(1, 9))
ALL = tuple(2**k for k in range(2, 17))
RULE = "alpha/sqrt(r)"
TOLERANCE = 0.002


def learning_rate(steps: int) -> float:
    """k lr gamma |v| |x| = 0.1 at the smallest rank, where gamma is largest."""
    return 0.1 / (steps * ALPHA / math.sqrt(RANKS[0]) * math.sqrt(D) / N)


def exact_curve(ranks: tuple[int, ...], steps: int, lr: float) -> np.ndarray:
    """The rms update by plain matrices of the full width, written without the engines' code.

    In words: with a linear loss B_t = -U_t A0' and A_t = A0 W_t, where U and W follow from the data alone; then
    E |U S C|**2 = r (r + 1) |U C|**2 + r |C|**2 |U|**2 for S = A0'A0 with A0 standard normal, in squared Frobenius norms.
    """
    problem = make_problem(SEED, d_in=D, d_out=P, cosine=1.0, samples=N)
    G, found = problem.v @ problem.x.T, []
    for r in ranks:
        h = lr * ALPHA / math.sqrt(r)
        U, W = np.zeros((P, D)), np.eye(D)
        for _ in range(steps):
            U, W = U + h * G @ W.T, W + h * U.T @ G
        C = W @ problem.x
        square = r * (r + 1) * ((U @ C) ** 2).sum() + r * (C**2).sum() * (U**2).sum()
        found.append(ALPHA / math.sqrt(r) * math.sqrt(square / (P * N)) / D)
    return np.array(found)


def against_the_curve(steps: int) -> tuple[float, float, int]:
    """Farthest ratio from 1, difference of the weighted slopes, draws; errors designed to a fifth of the tolerance."""
    lr = learning_rate(steps)
    problem = make_problem(SEED, d_in=D, d_out=P, cosine=1.0, samples=N)
    task = Task(setting(LORA, RULE, steps=steps), problem, ALPHA, lr, SEED, Budget(draws=None, entries=None))
    sampler, exact, points = sampler_for(task), exact_curve(RANKS, steps, lr), []
    assert sampler.name == "gram"
    for rank in RANKS:
        spread = magnitude(rank, sampler.sample(rank, "pilot", 2000).values, "rms").spread
        points.append(magnitude(rank, sampler.sample(rank, "curve", math.ceil((5 * spread / TOLERANCE) ** 2)).values, "rms"))
    ratios = np.array([m.value for m in points]) / exact
    weights = np.array([m.spread / math.sqrt(m.draws) for m in points])
    c = coefficients(RANKS, weights, 0)
    slopes = float(c @ np.log([m.value for m in points])), float(c @ np.log(exact))
    return float(ratios[np.argmax(np.abs(ratios - 1))]), slopes[0] - slopes[1], sum(m.draws for m in points)


def main(repeats: int = 2000) -> int:
    lines = []
    for steps in range(1, 9):
        ratio, slope, draws = against_the_curve(steps)
        what = f"{steps} steps, ratio to the exact curve at its farthest rank, {draws} draws"
        lines.append(line(what, round(ratio, 6), "1 +- 0.002", abs(ratio - 1) <= TOLERANCE))
        what = f"{steps} steps, weighted slope minus that of the exact curve"
        lines.append(line(what, round(slope, 6), "0 +- 0.002", abs(slope) <= TOLERANCE))
    for steps in (1, 8):
        slope = float(slope_weights(np.log(ALL)) @ np.log(exact_curve(ALL, steps, learning_rate(steps))))
        what = f"{steps} steps, ordinary least squares over 4..65536 on the exact curve itself, whose limit is 0"
        lines.append(line(what, round(slope, 4), "shown to be biased by 0.02 to 0.05", 0.02 < abs(slope) < 0.05))
    one = {"ranks": ALL, "precision": 0.02, "repeats": repeats}
    batch = {**one, "samples": N, "d_in": D, "d_out": P, "steps": 4, "lr": learning_rate(4)}
    for name, asked in (("one step, one sample", one), ("four steps, eight samples", batch)):
        found = calibrate(LORA, RULE, **asked)
        share, (low, high) = found.coverage.value, found.coverage.interval
        lines.append(line(f"{name}: coverage of nominal 95 % over {repeats} repeats, in [{low:.4f}, {high:.4f}]", share, "0.93 to 0.97",
                          0.93 <= share <= 0.97))  # fmt: skip
        lines.append(line(f"{name}: planted exponent off by twice the margin, confirmed", found.passed.hits,
                          f"rate {found.passed.declared:.2g}", found.passed.interval[0] <= found.passed.declared))  # fmt: skip
        lines.append(line(f"{name}: truth refuted", found.failed.hits, f"rate {found.failed.declared:.2g}",
                          found.failed.interval[0] <= found.failed.declared))  # fmt: skip
    # The same at rates that 2,000 repeats can see: intervals at 50 %, seven tenths of the margin wide.
    half = estimate(LORA, RULE, ranks=ALL, precision=0.02, error_budget=0.5).design["half_width"]
    found = calibrate(LORA, RULE, level=0.5, margin=half / 0.7, **one)
    share, (low, high) = found.coverage.value, found.coverage.interval
    what = f"at 50 %: coverage over {repeats} repeats, in [{low:.4f}, {high:.4f}]"
    lines.append(line(what, share, "0.48 to 0.52, within the interval of the share", low <= 0.52 and high >= 0.48))
    what = "at 50 %: planted exponent off by twice the margin, confirmed (the worse side)"
    declared = found.passed.declared
    lines.append(line(what, found.passed.value, f"rate {declared:.3f} at most", found.passed.interval[0] <= declared))
    kept = write("calibration", lines, seed=SEED, samples=N, d_in=D, d_out=P, alpha=ALPHA, rule=RULE, repeats=repeats)
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main(*(int(word) for word in sys.argv[1:2])))
