"""Merged adapters: the same outputs, no bytes and no time beyond the base's."""

from __future__ import annotations

import math
from typing import Any

from rsverify.studies.reproduce import drawing
from rsverify.studies.reproduce.figure import Figure, Foretold
from rsverify.studies.reproduce.judging import Finding, conclude, fact
from rsverify.studies.reproduce.plan import RSLORA, Plan
from rsverify.studies.reproduce.runs import CELLS, Results
from rsverify.sweep import Cell

EQUAL = math.sqrt(2.0**-52)
"""Of the logits' change by the adapter: halfway, in orders of magnitude, between rounding (2**-52) and a fault (a lost factor, 1)."""


def alone(plan: Plan) -> list[Cell]:
    ranks = [plan.narrow[0], plan.high, *plan.wide[-1:]]
    settings = {"ranks": ranks, "rule": RSLORA, "alpha": plan.alpha, "tokens": plan.tokens, "spread": 0.01, "repeats": 5, "passes": 8}
    return [Cell(f"{CELLS}:merging", settings, plan.all_seeds[0])]


def judge(plan: Plan, results: Results, foretold: Foretold) -> Finding:
    (cell,) = alone(plan)
    runs = results.of_cell[cell.key]["runs"]
    worst = max(run["difference"] for run in runs)
    parts = [
        fact(
            f"logits of merged and unmerged model differ by less than {EQUAL:.1e} of what the adapter changes (float64)",
            worst < EQUAL,
            mean=worst,
            unit="of the change",
            short="outputs are equal",
        ),
        fact("unmerging restores every bit of the weights", all(run["restored"] for run in runs), short="unmerging restores the weights"),
        fact(
            "a merged model holds exactly the base's bytes",
            all(run["bytes_merged"] == run["bytes_base"] for run in runs),
            short="no further bytes",
        ),
    ]
    rows = [
        [str(run["rank"]), f"{run['difference']:.1e}", f"{run['bytes_beside'] / run['bytes_base']:.3f}"]
        + [f"{run[name]:.2f}" for name in ("latency_beside", "latency_merged")]
        for run in runs
    ]
    table = {
        "title": "Against the bare base (medians of alternating repeats on one thread; times are shown, not judged)",
        "columns": ["rank", "difference of logits", "bytes, adapters beside", "latency, adapters beside", "latency, merged"],
        "rows": rows,
    }
    return conclude(parts, tables=(table,), numbers={"runs": runs})


def foretell(plan: Plan) -> Foretold:
    return Foretold(("Adding gamma B A to the weight is the same map for every input, whatever the rule: equal up to rounding.",), {})


def draw(plan: Plan, results: Results, foretold: Foretold) -> Any:
    (cell,) = alone(plan)
    runs = results.of_cell[cell.key]["runs"]
    figure, axes = drawing.panels(1)
    ranks = [run["rank"] for run in runs]
    for index, (name, label) in enumerate((("latency_beside", "adapters beside the base"), ("latency_merged", "merged"))):
        drawing.against_rank(axes[0][0], ranks, {0: [run[name] for run in runs]}, label=label, index=index)
    drawing.log_ranks(axes[0][0])
    axes[0][0].set_ylabel("latency over the base's")
    axes[0][0].legend(fontsize=8)
    return figure


FIGURE = Figure(
    name="merging",
    title="Merging",
    order=10,
    claim="Adapters of any rank and rule can be added to the weights: equal outputs, no cost at inference.",
    source="arXiv 2106.09685 on LoRA, as notes on it describe it; the wording in 2312.03732: not seen",
    prediction=foretell,
    cells=lambda plan, results: [],
    judge=judge,
    draw=draw,
    alone=alone,
)
