"""Made-up results for every cell that a figure asks for: worlds in which its claim holds, fails, or cannot be told."""

import math

from rsverify.definitions.rules import as_rule
from rsverify.statistics.streams import stream
from rsverify.studies.reproduce.runs import Results

POWERS = {"1": 0.0, "1/sqrt(r)": -0.5, "sqrt(r)": 0.5}


def train(cell, plan, *, loss, gradient=None, noise=0.0005, growth=lambda rule, rank: rank**0.5):
    """A training cell's result: `loss(rule, rank, lr, c)` in nats, gradient norm gamma sqrt(r) std unless given, noise of each seed."""
    c = cell.configuration
    runs = []
    for rank in c["ranks"]:
        draw = stream(cell.seed, "world", c["rule"], c["optimizer"], c["init"], rank, str(c["lr"])).standard_normal(2) * noise
        gamma = as_rule(c["rule"]).gamma(rank, c["alpha"])
        norm = gamma * rank ** (0.5 + POWERS[c["init"]]) if gradient is None else gradient(c["rule"], rank)
        norm *= math.exp(draw[1])
        held = loss(c["rule"], rank, c["lr"], c) + float(draw[0])
        runs.append({
            "rank": rank, "loss": [held] * plan.steps, "gradient_norm": [norm] * plan.steps, "output_rms": [0.0] * plan.steps,
            "held_out": held, "diverged": None, "stable_rank": growth(c["rule"], rank) * math.exp(draw[0]),
            "participation": growth(c["rule"], rank) * math.exp(draw[1]),
        })  # fmt: skip
    return {"runs": runs}


def rank_free(cell, plan, *, learns=True, noise=0.0005):
    c = cell.configuration
    runs = []
    for rank in c["ranks"]:
        draw = float(stream(cell.seed, "world", c["rule"], rank).standard_normal()) * noise
        gamma = as_rule(c["rule"]).gamma(rank, c["alpha"])
        gain = min(1.0, gamma**2 * rank / 400) if learns else 0.0
        norm = gamma * rank**0.5 * math.exp(draw)
        runs.append({"rank": rank, "loss": [2.0] * c["steps"], "gradient_norm": [norm] * c["steps"], "held_out": 2.1 - gain + draw})
    return {"runs": runs, "held_out_before": 2.1}


def distance(cell, plan, *, power=-0.5, noise=0.02, odd=None):
    c = cell.configuration
    names = ["a", "b", "c"]
    runs = []
    for rank in c["ranks"]:
        draws = stream(cell.seed, "world", "distance", rank).standard_normal(len(names)) * noise
        powers = [odd if odd is not None and name == "c" else power for name in names]
        values = [5 * rank**p * math.exp(d) for p, d in zip(powers, draws, strict=True)]
        runs.append({"rank": rank, "distance": values, "loss": [2.0] * (c["steps"] + 1)})
    return {"modules": names, "runs": runs, "loss": [2.0] * (c["steps"] + 1)}


def merging(cell, plan, *, difference=1e-14, restored=True):
    return {
        "runs": [
            {
                "rank": rank, "moved": 1.0, "difference": difference, "restored": restored, "bytes_base": 8, "bytes_beside": 12,
                "bytes_merged": 8, "latency_beside": 1.5, "latency_merged": 1.0,
            }
            for rank in cell.configuration["ranks"]
        ]
    }  # fmt: skip


def fill(figure, plan, make):
    """Results of every cell that the figure asks for, round after round, as the study would run them."""
    results = Results(plan)
    for _ in range(10):
        new = {cell.key: cell for cell in (*figure.cells(plan, results), *figure.alone(plan)) if cell.key not in results.of_cell}
        if not new:
            return results
        for cell in new.values():
            results.add(cell, make(cell, plan))
    raise AssertionError("the figure asks for ever more cells")


def judged(figure, plan, make):
    """Finding and results in a made-up world; the picture must come out, too."""
    results = fill(figure, plan, make)
    foretold = figure.prediction(plan)
    figure.draw(plan, results, foretold)
    return figure.judge(plan, results, foretold), results
