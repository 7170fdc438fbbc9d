"""Can a larger learning rate alone make rank-4 LoRA as good as rsLoRA at the largest rank?"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from rsverify.studies.reproduce import drawing, sweeping, theory
from rsverify.studies.reproduce.figure import Figure, Foretold
from rsverify.studies.reproduce.judging import Finding, ask, conclude
from rsverify.studies.reproduce.plan import LORA, MARGIN, RSLORA, Plan
from rsverify.studies.reproduce.runs import Family, Results, less
from rsverify.sweep import Cell

SMALL, LARGE = Family(LORA), Family(RSLORA)


def cells(plan: Plan, results: Results) -> list[Cell]:
    swept = [*sweeping.cells(plan, results, [SMALL], wide=()), *sweeping.cells(plan, results, [LARGE], wide=plan.wide)]
    named = [LARGE.cell(plan, [plan.largest], seed) for seed in plan.first_seeds(plan.named)] if plan.wide else []
    shared = LARGE.cells(plan, swept=True, named=True)
    return list({cell.key: cell for cell in (*shared, *named, *swept)}.values())


def judge(plan: Plan, results: Results, foretold: Foretold) -> Finding:
    small = sweeping.losses_at_best(plan, results, SMALL, plan.low)
    largest = plan.largest
    best = {rank: less(results.losses(LARGE, rank), small) for rank in (largest, plan.high)}
    controls = {rank: less(sweeping.losses_at_best(plan, results, LARGE, rank), small) for rank in dict.fromkeys((plan.high, largest))}
    parts = [
        ask(
            f"rsLoRA at rank {rank}, lr {plan.lr:g}: held-out loss less that of rank-{plan.low} LoRA at its best lr, below -{MARGIN:.4f}",
            plan, difference, (-math.inf, -MARGIN), deciding=rank == largest,
            short=f"rsLoRA of rank {rank} at the default rate beats rank-{plan.low} LoRA at its best rate",
        )
        for rank, difference in best.items()
    ]  # fmt: skip
    parts += [
        ask(
            f"control, rsLoRA at rank {rank} at its own best lr: the same difference, below -{MARGIN:.4f}",
            plan, difference, (-math.inf, -MARGIN), deciding=False,
            short=f"rsLoRA of rank {rank} at its own best rate beats rank-{plan.low} LoRA at its best",
        )
        for rank, difference in controls.items()
    ]  # fmt: skip
    rows = [
        [f"{lr:.3g}", f"{math.exp(sweeping.mean_loss(results, sweeping.at(SMALL, lr), plan.low, plan.swept_seeds)):.3f}"]
        for lr in results.rates(SMALL, plan.low)
    ]
    # Over the seeds that both have: seeds differ in their data.
    losses = results.losses(LARGE, largest)
    fixed = math.exp(np.mean(list(losses.values())))
    tuned = math.exp(np.mean([small[seed] for seed in losses]))
    remark = (
        f"rsLoRA at rank {largest} and lr {plan.lr:g} ends at perplexity {fixed:.3f}, rank-{plan.low} LoRA at its best rate at {tuned:.3f}."
    )
    table = {"title": f"Rank-{plan.low} LoRA: held-out perplexity", "columns": ["lr", "perplexity"], "rows": rows}
    return conclude(parts, remark=remark, tables=(table,))


def foretell(plan: Plan) -> Foretold:
    powers = {f.rule: theory.exponent(f, "update") for f in (SMALL, LARGE)}
    largest = plan.largest
    gammas = [float(theory.gamma(f.rule, rank, plan.alpha)) * rank for f, rank in ((LARGE, largest), (SMALL, plan.low))]
    sentence = (
        f"At one learning rate the first step of AdamW moves rsLoRA of rank {largest} {gammas[0] / gammas[1]:.3g} times as far as LoRA of"
        f" rank {plan.low}: so much larger a rate does the same at rank {plan.low}, and what is left is what rank itself is worth. Theory"
        " does not say how much that is."
    )
    return Foretold((sentence,), {"update": {rule: str(p) for rule, p in powers.items()}, "ratio": gammas[0] / gammas[1]})


def draw(plan: Plan, results: Results, foretold: Foretold) -> Any:
    figure, axes = drawing.panels(1, height=3.6)
    panel = axes[0][0]
    rates = results.rates(SMALL, plan.low)
    curves = {seed: [math.exp(results.losses(sweeping.at(SMALL, lr), plan.low)[seed]) for lr in rates] for seed in plan.swept_seeds}
    drawing.against_rank(panel, rates, curves, label=f"LoRA, r = {plan.low}", index=0)
    drawing.log_rates(panel)
    for index, rank in enumerate(dict.fromkeys((plan.high, plan.largest)), start=1):
        losses = results.losses(LARGE, rank)
        level = math.exp(np.mean([losses[seed] for seed in plan.swept_seeds if seed in losses]))
        label = f"rsLoRA, r = {rank}, lr {plan.lr:g}"
        panel.axhline(level, color=drawing.COLOURS[index], linestyle="--", linewidth=1.2, label=label)
    panel.set_ylabel("held-out perplexity")
    panel.legend(fontsize=8)
    return figure


FIGURE = Figure(
    name="lr-sweep",
    title="Rank-4 LoRA at its best learning rate against rsLoRA at the largest rank",
    order=7,
    claim="No learning rate makes rank-4 LoRA as good as rsLoRA at rank 2048 and the default rate.",
    source=(
        "arXiv 2312.03732, a sweep as notes on it describe it (perplexity 1.863 at a ten times larger rate, against 1.836); its grid and"
        " whether rsLoRA's rate was swept too: not seen"
    ),
    prediction=foretell,
    cells=cells,
    judge=judge,
    draw=draw,
)
