"""The measured promises of the Monte Carlo engines, each against what a user would do otherwise, in the same run.

    python benchmarks/montecarlo.py [--quick] [--out benchmarks/evidence/montecarlo.json]

Setting: 8 samples, d_in = 512, d_out = 16, linear loss, LoRA with Gaussian A and alpha / sqrt(r), lr such that
steps * lr * gamma * |v| |x| = 0.1 at the smallest rank. Times are medians of five alternating repeats, after one that is not
counted; linear algebra keeps to one thread on both sides. Exit code 1 where a promise is not kept.
"""

# ruff: noqa: E402
from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"  # for both sides: starting a thread costs more than a small product, and busy ones distort the rest

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _evidence import rooms

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.claims import setting
from rsverify.definitions.laws import Gaussian, Zero
from rsverify.montecarlo import Budget, estimate
from rsverify.montecarlo.engines import Task, sampler_for
from rsverify.montecarlo.gram import spans
from rsverify.montecarlo.problem import make_problem
from rsverify.records import to_json
from rsverify.report.provenance import provenance

ADAPTER = Adapter("lora-gaussian", "o r, r i -> o i", B=Zero(), A=Gaussian("1/sqrt(i)"))
RULE, ALPHA, SEED = "alpha/sqrt(r)", 20.0, 0
SAMPLES, D_IN, D_OUT = 8, 512, 16
RANKS = tuple(2**k for k in range(2, 17))
BASELINE_RANKS, BASELINE_DRAWS = (256, 1024, 4096), 16
REPEATS = 5
PROBLEM = make_problem(SEED, d_in=D_IN, d_out=D_OUT, cosine=1.0, samples=SAMPLES)


def rate(steps: int) -> float:
    """The lr at which steps * lr * gamma * |v| |x| = 0.1 for gamma at the smallest rank, |v| and |x| over the batch."""
    gamma = ALPHA / RANKS[0] ** 0.5
    return 0.1 / (steps * gamma * float(np.linalg.norm(PROBLEM.v)) * float(np.linalg.norm(PROBLEM.x)))


def task(optimizer: str, steps: int) -> Task:
    chosen = setting(ADAPTER, RULE, optimizer=optimizer, quantity="update", steps=steps)
    return Task(chosen, PROBLEM, ALPHA, rate(steps), SEED, Budget())


def materialised(rank: int, draws: int, steps: int, rng: np.random.Generator, A: np.ndarray | None = None) -> np.ndarray:
    """What one would write with care: factors, gradients, steps and outputs as matrices, the two large arrays made once.

    Returns the mean square of the update, for each draw.
    """
    gamma, lr, found = ALPHA / rank**0.5, rate(steps), np.empty(draws)
    X, V = PROBLEM.x, PROBLEM.v
    down, step_down = np.empty((rank, D_IN)), np.empty((rank, D_IN))
    for draw in range(draws):
        if A is None:
            rng.standard_normal(out=down)
            down *= D_IN**-0.5
        else:
            down[:] = A
        up = np.zeros((D_OUT, rank))
        for t in range(steps):
            step_up = gamma * V @ (down @ X).T
            if t:  # while B is zero, so is the gradient of A
                np.matmul(lr * gamma * (up.T @ V), X.T, out=step_down)
                down -= step_down
            up -= lr * step_up
        y = gamma * up @ (down @ X)
        found[draw] = (y * y).mean()
    return found


def medians(calls: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """The median seconds of each call, over repeats that take turns; the first turn is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for repeat in range(REPEATS + 1):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            if repeat:
                seconds[name].append(time.perf_counter() - began)
    return {name: float(np.median(taken)) for name, taken in seconds.items()}


def against_materialised(steps: int, draws: int) -> dict[str, Any]:
    """The same draws at every rank have the same law, so the same precision: only time differs."""
    rng = np.random.default_rng(SEED)

    def engine() -> None:  # made anew each time: a sampler keeps its basis and its trained states
        sampler = sampler_for(task("sgd", steps), "gram")
        for rank in RANKS:
            sampler.sample(rank, "benchmark", draws)

    calls: dict[str, Callable[[], Any]] = {
        f"rank {rank}": lambda rank=rank: materialised(rank, BASELINE_DRAWS, steps, rng) for rank in BASELINE_RANKS
    }
    calls["engine"] = engine
    found = medians(calls)
    seconds = np.asarray([found[f"rank {rank}"] for rank in BASELINE_RANKS]) / BASELINE_DRAWS
    per_row = float(seconds @ BASELINE_RANKS / (np.asarray(BASELINE_RANKS) @ BASELINE_RANKS))
    scaled = per_row * sum(RANKS) * draws
    line = per_row * np.asarray(BASELINE_RANKS)
    return {
        "steps": steps, "draws at each rank": draws, "engine seconds": found["engine"], "materialised seconds, scaled": scaled,
        "materialised seconds per draw": dict(zip(map(str, BASELINE_RANKS), seconds.tolist(), strict=True)),
        "seconds per draw and row": per_row, "largest departure from linearity": float(np.abs(seconds / line - 1).max()),
        "ratio": scaled / found["engine"],
    }  # fmt: skip


def path_error(cases: int) -> float:
    """The largest relative error of the mean square update against the materialised run with the same A."""
    worst = 0.0
    for case in range(cases):
        rng = np.random.default_rng(case)
        rank, steps = int(rng.integers(1, 65)), int(rng.integers(1, 9))
        A = rng.standard_normal((rank, D_IN)) / D_IN**0.5
        data = spans.span(PROBLEM.x)
        AQ = A @ data.Q
        W, gamma = (AQ.T @ AQ)[None], ALPHA / rank**0.5
        state = spans.train(data.R, spans.Linear(PROBLEM.v), setting(ADAPTER, RULE).optimizer, gamma=gamma, lr=rate(steps), steps=steps)
        y = spans.outputs(state, W, data.R, gamma)
        theirs = materialised(rank, 1, steps, rng, A)[0]
        worst = max(worst, abs(float((y * y).mean()) / theirs - 1))
    return worst


def rank_is_free() -> dict[str, float]:
    sampler = sampler_for(task("sgd", 1), "gram")
    found = medians({f"2**{k}": lambda k=k: sampler.sample(2**k, "benchmark", 1000) for k in (4, 40)})
    return {"seconds at 2**4": found["2**4"], "seconds at 2**40": found["2**40"], "ratio": found["2**40"] / found["2**4"]}


def slope() -> dict[str, float]:
    """`estimate` to +-0.005, whole in process."""
    kept: dict[str, Any] = {}

    def ask() -> None:
        kept["estimate"] = estimate(
            ADAPTER, RULE, ranks=RANKS, d_in=D_IN, d_out=D_OUT, samples=SAMPLES, alpha=ALPHA, lr=rate(1), precision=0.005, seed=SEED
        )

    seconds = medians({"estimate": ask})["estimate"]
    lo, hi = kept["estimate"].interval
    return {"seconds": seconds, "exponent": kept["estimate"].exponent, "half-width": (hi - lo) / 2, "draws": kept["estimate"].draws}


def adam() -> float:
    sampler = sampler_for(task("adam", 1), "channels")
    return medians({"adam": lambda: sampler.nested(RANKS, "benchmark", 16)})["adam"]


def run(*, quick: bool) -> tuple[dict[str, Any], list[tuple[str, float, str, bool]]]:
    """All figures, and the table: promise, measured, asked, kept."""
    asked = slope()
    same = max(64, -(-int(asked["draws"]) // len(RANKS)))
    versus = [against_materialised(steps, same) for steps in ((1,) if quick else (1, 8))]
    free, first, error = rank_is_free(), adam(), path_error(200)
    figures = {
        "slope to +-0.005, in process": asked, "against materialised numpy": versus, "rank 2**40 against 2**4, 1,000 draws": free,
        "Adam's first step, powers of two to 65536, 16 draws, seconds": first, "largest relative path error of 200 cases": error,
    }  # fmt: skip
    rows = [
        ("slope over 4..65536 to +-0.005 in process, seconds", asked["seconds"], "<= 0.05", asked["seconds"] <= 0.05),
        ("its half-width", asked["half-width"], "<= 0.005", asked["half-width"] <= 0.005),
    ]
    for f in versus:
        what = f"materialised numpy / Gram engine, {f['steps']} step(s), {same} draws at each rank"
        rows.append((what, f["ratio"], ">= 10000", f["ratio"] >= 1e4))
    rows.append(("time at rank 2**40 / at rank 2**4, 1,000 draws", free["ratio"], "<= 1.5", free["ratio"] <= 1.5))
    rows.append(("Adam's first step, powers of two to 65536, 16 draws, seconds", first, "<= 0.5", first <= 0.5))
    rows.append(("largest relative path error of 200 cases", error, "<= 1e-12", error <= 1e-12))
    return figures, rows


def main() -> int:
    parser = argparse.ArgumentParser(description="Measured promises of the Monte Carlo engines.")
    parser.add_argument("--quick", action="store_true", help="one step only")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "evidence" / "montecarlo.json")
    arguments = parser.parse_args()
    figures, rows = run(quick=arguments.quick)
    for f in figures["against materialised numpy"]:
        print(
            f"materialised, {f['steps']} step(s): {BASELINE_DRAWS} draws at ranks {BASELINE_RANKS}, "
            f"{f['seconds per draw and row']:.3g} s per draw and unit of rank (linear to {f['largest departure from linearity']:.0%}), "
            f"scaled to {f['draws at each rank']} draws at {len(RANKS)} ranks: {f['materialised seconds, scaled']:.3g} s, not run; "
            f"engine {f['engine seconds']:.3g} s"
        )
    for what, value, limit, kept in rows:
        print(f"{'kept' if kept else 'NOT KEPT':9} {what:80} {value:>12.4g}   asked {limit}")
    settings = {"samples": SAMPLES, "d_in": D_IN, "d_out": D_OUT, "alpha": ALPHA, "rule": RULE, "repeats": REPEATS}
    record = {
        "provenance": to_json(provenance(seed=SEED, hashes=rooms("montecarlo"), settings=settings)),
        "processors": os.cpu_count(), "figures": figures,
        "promises": [{"what": what, "measured": value, "asked": limit, "kept": bool(kept)} for what, value, limit, kept in rows],
    }  # fmt: skip
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"written to {arguments.out.name}")
    return 0 if all(kept for *_, kept in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
