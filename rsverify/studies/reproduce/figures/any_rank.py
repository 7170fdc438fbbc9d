"""Ranks from 4 to a million of a real transformer under SGD, in one plot, through the rank-free layer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from rsverify.studies.reproduce import drawing, theory
from rsverify.studies.reproduce.figure import Figure, Foretold
from rsverify.studies.reproduce.figures.perplexity import NAMES
from rsverify.studies.reproduce.judging import Finding, ask, ask_exponent, conclude, slopes
from rsverify.studies.reproduce.plan import GUESS, LORA, MARGIN, RSLORA, Plan
from rsverify.studies.reproduce.runs import Family, Results, finite, less, rank_free_cell
from rsverify.sweep import Cell
from rsverify.symbolic.answers.limit import limit_of_rank


def cells(plan: Plan, results: Results) -> list[Cell]:
    return [rank_free_cell(plan, rule, seed) for rule in NAMES for seed in plan.few_seeds]


def runs(plan: Plan, results: Results, rule: str) -> dict[int, dict[int, Any]]:
    """Records by seed, then rank."""
    found = {seed: results.of_cell[rank_free_cell(plan, rule, seed).key] for seed in plan.few_seeds}
    return {seed: {run["rank"]: run for run in result["runs"]} for seed, result in found.items()}


def foretell(plan: Plan) -> Foretold:
    limits = {rule: limit_of_rank("lora", rule) for rule in NAMES}
    sentences = [
        f"{rule}: as r grows SGD on the adapter becomes {limit.kind} (its rate goes as r**({limit.exponent}))."
        for rule, limit in limits.items()
    ]
    sentences += [theory.in_words(Family(rule, "sgd"), low=plan.any_ranks[0], high=plan.any_ranks[-1]) for rule in NAMES]
    return Foretold(tuple(sentences), {rule: {"kind": limit.kind, "exponent": str(limit.exponent)} for rule, limit in limits.items()})


def judge(plan: Plan, results: Results, foretold: Foretold) -> Finding:
    first, second, last = plan.any_ranks[0], plan.any_ranks[-2], plan.any_ranks[-1]
    found = {rule: runs(plan, results, rule) for rule in NAMES}

    def losses(rule: str, rank: int) -> dict[int, float]:
        held = {seed: of_rank[rank]["held_out"] for seed, of_rank in found[rule].items()}
        return {seed: GUESS if value is None else min(value, GUESS) for seed, value in held.items()}

    before = {seed: results.of_cell[rank_free_cell(plan, LORA, seed).key]["held_out_before"] for seed in plan.few_seeds}
    settled = less(losses(RSLORA, last), losses(RSLORA, second))
    learnt = {rule: less(losses(rule, last), before) for rule in NAMES}
    parts = [
        ask(
            f"rsLoRA: held-out loss at rank {last} less that at rank {second}, within +-{MARGIN:.4f}",
            plan,
            settled,
            (-MARGIN, MARGIN),
            short="rsLoRA has a limit",
        ),
        ask(
            f"rsLoRA at rank {last}: held-out loss less the base's, below -{MARGIN:.4f}",
            plan,
            learnt[RSLORA],
            (-math.inf, -MARGIN),
            short=f"rsLoRA still learns at rank {last}",
        ),
        ask(
            f"LoRA at rank {last}: held-out loss less the base's, within +-{MARGIN:.4f}",
            plan,
            learnt[LORA],
            (-MARGIN, MARGIN),
            short=f"LoRA has stopped learning at rank {last}",
        ),
    ]
    for rule, name in NAMES.items():
        curves = {seed: [of_rank[r]["gradient_norm"][0] for r in plan.any_ranks] for seed, of_rank in found[rule].items()}
        exponent = theory.exponent(Family(rule, "sgd"), "gradient_norm")
        says = f"{name}: exponent of the gradient norm at init over ranks {first} to {last}, within 0.1 of theory's {exponent}"
        parts.append(
            ask_exponent(says, plan, slopes(plan.any_ranks, curves), exponent, short=f"{name}'s gradient norm goes as r**({exponent})")
        )
    rows = []
    for rank in plan.any_ranks:
        rows.append([f"{rank}", *(f"{math.exp(np.mean(list(losses(rule, rank).values()))):.3f}" for rule in NAMES)])
    rows.append(["base, untrained", *([f"{math.exp(np.mean(list(before.values()))):.3f}"] * len(NAMES))])
    table = {"title": f"Held-out perplexity after {plan.any_steps} steps of SGD", "columns": ["rank", *NAMES.values()], "rows": rows}
    return conclude(parts, tables=(table,))


def draw(plan: Plan, results: Results, foretold: Foretold) -> Any:
    figure, axes = drawing.panels(2)
    for panel, (rule, name) in zip(axes[0], NAMES.items(), strict=True):
        found = runs(plan, results, rule)
        for rank, colour in drawing.rank_colours(plan.any_ranks).items():
            mean = drawing.smoothed(np.mean([finite(of_rank[rank]["loss"]) for of_rank in found.values()], axis=0))
            panel.plot(
                np.exp(np.minimum(mean, GUESS)), color=colour, label=f"r = {rank:,}", linestyle="--" if rank > drawing.WIDTH else "-"
            )
        panel.set_title(f"{name}, sgd, lr {plan.lr_sgd:g}", fontsize=10)
        panel.set_xlabel("step")
        panel.set_ylabel("perplexity of the batches")
        panel.grid(True, linewidth=0.3, alpha=0.6)
    limits = [panel.get_ylim() for panel in axes[0]]
    for panel in axes[0]:
        panel.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
    axes[0][-1].legend(fontsize=8)
    return figure


FIGURE = Figure(
    name="any-rank",
    title="Rank without limit",
    order=12,
    claim="As the rank grows without bound LoRA's learning collapses under SGD, and rsLoRA's stays stable.",
    source="arXiv 2312.03732, Theorem 3.2 as notes quote it; no run at such ranks in the article was seen",
    prediction=foretell,
    cells=cells,
    judge=judge,
    draw=draw,
)
