"""The norm of the adapters' gradient against step and rank."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from rsverify.studies.reproduce import theory
from rsverify.studies.reproduce.figure import Figure, Foretold
from rsverify.studies.reproduce.figures import perplexity
from rsverify.studies.reproduce.judging import Finding, Part, ask, ask_exponent, conclude, slopes
from rsverify.studies.reproduce.plan import LORA, RSLORA, Plan
from rsverify.studies.reproduce.runs import Family, Results

FAMILIES = perplexity.FAMILIES


def at_init(plan: Plan, results: Results, family: Family, **more: Any) -> Part:
    """The exponent of the gradient norm before the first step, against theory's."""
    name = perplexity.NAMES.get(family.rule, family.rule) + ("" if family.init == "1" else f", A's init times {family.init}")
    norms = {seed: [results.norm_at_init(family, rank, seed) for rank in plan.narrow] for seed in plan.all_seeds}
    curves = {seed: [norm for norm in found if norm is not None] for seed, found in norms.items() if None not in found}
    foretold = theory.exponent(family, "gradient_norm")
    says = f"{name}, {family.optimizer}: exponent in r of the gradient norm at init, within 0.1 of theory's {foretold}"
    short = f"the gradient norm at init of {name} goes as r**({foretold})"
    return ask_exponent(says, plan, slopes(plan.narrow, curves), foretold, short=short, **more)


def spread_over_ranks(results: Results, family: Family, ranks: Sequence[int]) -> dict[int, float]:
    """Decades between the largest and smallest rank's gradient norm, the mean over all steps, by seed."""
    found = {}
    for seed, runs in shared(results, family, ranks).items():
        norms = np.array([[math.nan if v is None else v for v in runs[rank]["gradient_norm"]] for rank in ranks])
        found[seed] = float(np.mean(np.log10(norms.max(0) / norms.min(0))))
    return found


def shared(results: Results, family: Family, ranks: Sequence[int]) -> dict[int, dict[int, Any]]:
    """The runs by rank of each seed that has all of these ranks."""
    by_rank = {rank: results.runs(family, rank) for rank in ranks}
    seeds = [seed for seed in by_rank[ranks[0]] if all(seed in found for found in by_rank.values())]
    return {seed: {rank: found[seed] for rank, found in by_rank.items()} for seed in seeds}


def judge(plan: Plan, results: Results, foretold: Foretold) -> Finding:
    lora, rslora = FAMILIES
    parts = [at_init(plan, results, f) for f in FAMILIES]
    parts.append(
        ask(
            "rsLoRA: decades between the ranks' gradient norms, mean over all steps, below 1",
            plan,
            spread_over_ranks(results, rslora, plan.narrow),
            (-math.inf, 1.0),
            unit="decades",
            short="under rsLoRA all ranks keep gradients of one order of magnitude",
        )
    )
    ranks = results.ranks(lora)
    runs = {f: shared(results, f, ranks) for f in FAMILIES}
    means = {f: [np.mean([found[rank]["gradient_norm"][0] for found in runs[f].values()]) for rank in ranks] for f in FAMILIES}
    rows = [[str(rank), *(f"{means[f][k]:.4g}" for f in FAMILIES)] for k, rank in enumerate(ranks)]
    title = f"Gradient norm at init (mean over the {len(runs[lora])} seeds that every rank has)"
    table = {"title": title, "columns": ["rank", "LoRA", "rsLoRA"], "rows": rows}
    remark = f"From rank {ranks[0]} to {ranks[-1]} LoRA's norm at init falls {means[lora][0] / means[lora][-1]:.3g}-fold."
    return conclude(parts, remark=remark, tables=(table,))


def foretell(plan: Plan) -> Foretold:
    found = {f.rule: theory.exponent(f, "gradient_norm") for f in FAMILIES}
    top = plan.largest
    fall = (top / plan.narrow[0]) ** -float(found[LORA])
    sentence = (
        f"At init, whatever the optimizer, the norm goes as r**({found[LORA]}) under LoRA and r**({found[RSLORA]}) under rsLoRA; from rank"
        f" {plan.narrow[0]} to {top} LoRA's falls {fall:.3g}-fold. Theory does not speak of later steps of AdamW."
    )
    return Foretold((sentence,), {rule: str(value) for rule, value in found.items()})


def draw(plan: Plan, results: Results, foretold: Foretold) -> Any:
    return perplexity.draw(plan, results, foretold, curve="gradient_norm")


FIGURE = Figure(
    name="gradient-norm",
    title="Gradient norm against step and rank",
    order=2,
    claim=(
        "Under LoRA the norm of the adapters' gradient falls with rank, by about two orders of magnitude from rank 4 to 2048; under rsLoRA"
        " all ranks start at one norm and stay within one order."
    ),
    source="arXiv 2312.03732, Figure 3, as notes on it describe it; whether the article's average is over parameters: not seen",
    prediction=foretell,
    cells=perplexity.cells,
    judge=judge,
    draw=draw,
)
