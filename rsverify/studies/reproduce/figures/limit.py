"""rsLoRA under SGD tends to full fine-tuning as its rank grows: how fast, in every module."""

from __future__ import annotations

from typing import Any

import numpy as np

from rsverify.studies.reproduce import drawing
from rsverify.studies.reproduce.figure import Figure, Foretold
from rsverify.studies.reproduce.judging import Finding, ask_exponent, conclude, fact, shown, slopes
from rsverify.studies.reproduce.plan import RSLORA, Plan
from rsverify.studies.reproduce.runs import Results, distance_cell
from rsverify.sweep import Cell
from rsverify.symbolic.answers.limit import limit_of_rank


def cells(plan: Plan, results: Results) -> list[Cell]:
    return [distance_cell(plan, RSLORA, seed) for seed in plan.few_seeds]


def distances(plan: Plan, results: Results) -> dict[int, np.ndarray]:
    """By seed. Shapes: (ranks, modules)."""
    found = {seed: results.of_cell[distance_cell(plan, RSLORA, seed).key] for seed in plan.few_seeds}
    return {seed: np.array([run["distance"] for run in result["runs"]], dtype=float) for seed, result in found.items()}


def foretell(plan: Plan) -> Foretold:
    limit = limit_of_rank("lora", RSLORA)
    assert limit.limit is not None
    sentence = (
        f"SGD on rsLoRA becomes {limit.kind} at the learning rate {limit.limit.text} of each module's own d_in; one step's distance from"
        f" it, over its size, is {limit.distance.text} for the default init (below: normal A of the same variance), so it falls as"
        f" r**({limit.approach})."
    )
    return Foretold((sentence,), {"rate": limit.limit.text, "approach": str(limit.approach), "distance": limit.distance.text})


def judge(plan: Plan, results: Results, foretold: Foretold) -> Finding:
    approach = limit_of_rank("lora", RSLORA).approach
    found = distances(plan, results)
    names = results.of_cell[distance_cell(plan, RSLORA, plan.few_seeds[0]).key]["modules"]
    whole = {seed: np.sqrt((table**2).mean(1)).tolist() for seed, table in found.items()}
    says = f"exponent in r of the distance after {plan.limit_steps} steps, rms over modules, within 0.1 of theory's {approach}"
    parts = [ask_exponent(says, plan, slopes(plan.limit_ranks, whole), approach, short=f"the distance falls as r**({approach})")]
    each = [
        ask_exponent(name, plan, slopes(plan.limit_ranks, {s: table[:, i].tolist() for s, table in found.items()}), approach)
        for i, name in enumerate(names)
    ]
    agreeing = sum(part.answer == "yes" for part in each)
    refuting = sum(part.answer == "no" for part in each)
    says = f"no module's exponent lies outside ({agreeing} of {len(each)} inside, {refuting} outside, the others not settled)"
    parts.append(fact(says, not refuting, short="so it does in every module that these seeds settle"))
    rows = [
        [f"{rank:,}", *(f"{v:.4g}" for v in _quartiles(np.stack([found[s][k] for s in found])))] for k, rank in enumerate(plan.limit_ranks)
    ]
    modules = [[part.says, shown(part), part.answer] for part in each]
    tables = (
        {
            "title": "Distance over the way of full fine-tuning, all modules and seeds",
            "columns": ["rank", "smallest", "median", "largest"],
            "rows": rows,
        },
        {"title": "Exponent of each module (all seeds)", "columns": ["module", "exponent", "within 0.1"], "rows": modules},
    )
    return conclude(parts, tables=tables)


def _quartiles(values: np.ndarray) -> tuple[float, float, float]:
    return float(values.min()), float(np.median(values)), float(values.max())


def draw(plan: Plan, results: Results, foretold: Foretold) -> Any:
    found = distances(plan, results)
    limit = limit_of_rank("lora", RSLORA)
    figure, axes = drawing.panels(1, height=3.6)
    panel = axes[0][0]
    mean = np.mean(list(found.values()), axis=0)
    panel.plot(plan.limit_ranks, mean, color="#999999", linewidth=0.6, alpha=0.7)
    panel.plot([], [], color="#999999", linewidth=0.6, label=f"each of {mean.shape[1]} modules")
    whole = {seed: np.sqrt((table**2).mean(1)).tolist() for seed, table in found.items()}
    drawing.against_rank(panel, plan.limit_ranks, whole, label="all modules, each seed", index=0)
    one_step = [limit.relative_distance(r, d_in=drawing.WIDTH, d_out=drawing.WIDTH) for r in plan.limit_ranks]
    panel.plot(plan.limit_ranks, one_step, color="#D55E00", linestyle=":", label=f"theory, one step, d_in = {drawing.WIDTH}")
    drawing.log_ranks(panel)
    panel.set_ylabel("distance from full fine-tuning")
    panel.legend(fontsize=8)
    return figure


FIGURE = Figure(
    name="limit",
    title="The limit of large rank is full fine-tuning",
    order=13,
    claim=(
        "rsLoRA's learning has a stable limit as the rank grows; ours adds which: full fine-tuning, approached as the inverse root of the"
        " rank."
    ),
    source=(
        "arXiv 2312.03732, Theorem 3.2 as notes quote it, for stability; the limit and its rate are this project's (the lemma"
        " full-finetuning-limit), not the article's"
    ),
    prediction=foretell,
    cells=cells,
    judge=judge,
    draw=draw,
)
