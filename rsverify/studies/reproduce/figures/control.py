"""The control that the article lacks: every rank and rule at its own best learning rate."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from rsverify.studies.reproduce import drawing, sweeping, theory
from rsverify.studies.reproduce.figure import Figure, Foretold
from rsverify.studies.reproduce.figures.perplexity import FAMILIES, NAMES
from rsverify.studies.reproduce.judging import Finding, ask, ask_exponent, conclude
from rsverify.studies.reproduce.plan import MARGIN, Plan
from rsverify.studies.reproduce.runs import Results, less
from rsverify.sweep import Cell


def ranks(plan: Plan) -> tuple[int, ...]:
    """Those at most d/2 decide; the narrow ones above are swept along."""
    return plan.narrow


def cells(plan: Plan, results: Results) -> list[Cell]:
    return sweeping.cells(plan, results, FAMILIES, ranks(plan))


def judge(plan: Plan, results: Results, foretold: Foretold) -> Finding:
    lora, rslora = FAMILIES
    judged = [rank for rank in ranks(plan) if rank <= plan.high]
    best = {f: {rank: sweeping.losses_at_best(plan, results, f, rank) for rank in ranks(plan)} for f in FAMILIES}
    ahead = less(best[rslora][plan.high], best[lora][plan.high])
    parts = [
        ask(
            f"rank {plan.high}, each rule at its own best lr: held-out loss of rsLoRA less that of LoRA, below -{MARGIN:.4f}",
            plan, ahead, (-math.inf, -MARGIN), short=f"at rank {plan.high} rsLoRA at its best rate is better than LoRA at its best",
        )
    ]  # fmt: skip
    parts.append(
        ask(
            f"the same difference, within +-{MARGIN:.4f}", plan, ahead, (-MARGIN, MARGIN), deciding=False,
            short=f"at rank {plan.high} the two rules are equally good at their own best rates",
        )
    )  # fmt: skip
    for family in FAMILIES:
        name = NAMES[family.rule]
        gain = less(best[family][plan.high], best[family][plan.low])
        parts.append(
            ask(
                f"{name} at its own best lr: held-out loss at rank {plan.high} less that at rank {plan.low}, below -{MARGIN:.4f}",
                plan, gain, (-math.inf, -MARGIN), deciding=False, short=f"{name} at its best rate gains from rank",
            )
        )  # fmt: skip
        exponent = theory.lr_exponent(family)
        if exponent is not None:
            says = f"{name}: exponent in r of the best lr over ranks {judged[0]} to {judged[-1]}, within 0.1 of theory's {exponent}"
            found = sweeping.exponents(plan, results, family, judged)
            parts.append(ask_exponent(says, plan, found, exponent, deciding=False, short=f"{name}'s best rate goes as r**({exponent})"))
    rows = []
    for rank in ranks(plan):
        row = [f"{rank}{' (above d/2)' if rank > plan.high else ''}"]
        for family in FAMILIES:
            rate = math.exp(np.mean([sweeping.optimum(results, family, rank, seed) for seed in plan.all_seeds]))
            row += [f"{rate:.3g}", f"{math.exp(np.mean(list(best[family][rank].values()))):.3f}"]
        rows.append(row)
    columns = ["rank", *(f"{NAMES[f.rule]}, {what}" for f in FAMILIES for what in ("best lr", "perplexity at it"))]
    table = {"title": "Best learning rate (geometric mean over seeds) and held-out perplexity there", "columns": columns, "rows": rows}
    said = [f"{part.short}: {part.answer}" for part in parts if not part.deciding]
    remark = f"With tuned rates: {'; '.join(said)}. Each seed is judged at the rate that served the other repeat's seeds best."
    return conclude(parts, remark=remark, tables=(table,))


def foretell(plan: Plan) -> Foretold:
    found = {f.rule: theory.lr_exponent(f) for f in FAMILIES}
    said = "; ".join(f"under {NAMES[rule]} as r**({q})" for rule, q in found.items())
    return Foretold(
        (
            f"The first step of AdamW keeps its size where the learning rate goes {said}. If the optimum follows the first step, the two"
            " rules differ by this factor in the learning rate alone, and at their own best rates they do the same.",
        ),
        {rule: str(q) for rule, q in found.items()},
    )


def draw(plan: Plan, results: Results, foretold: Foretold) -> Any:
    figure, axes = drawing.panels(3)
    for panel, family in zip(axes[0], FAMILIES, strict=False):
        for rank, colour in drawing.rank_colours(ranks(plan)).items():
            rates = results.rates(family, rank)
            means = [math.exp(sweeping.mean_loss(results, sweeping.at(family, lr), rank)) for lr in rates]
            panel.plot(rates, means, color=colour, marker=".", linewidth=1.1, label=f"r = {rank}")
        drawing.log_rates(panel)
        panel.set_ylabel("held-out perplexity")
        panel.set_title(f"{NAMES[family.rule]}, adamw", fontsize=10)
    limits = [panel.get_ylim() for panel in axes[0][:2]]
    for panel in axes[0][:2]:
        panel.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
        drawing.plain(panel.yaxis)
    axes[0][0].legend(fontsize=8)
    for index, family in enumerate(FAMILIES):
        curves = {seed: [math.exp(sweeping.optimum(results, family, r, seed)) for r in ranks(plan)] for seed in plan.all_seeds}
        exponent = theory.lr_exponent(family)
        drawing.against_rank(
            axes[0][2], ranks(plan), curves, label=f"{NAMES[family.rule]} (theory r**{exponent})", index=index,
            exponent=None if exponent is None else float(exponent),
        )  # fmt: skip
    drawing.log_ranks(axes[0][2])
    axes[0][2].set_ylabel("best learning rate")
    axes[0][2].legend(fontsize=8)
    return figure


FIGURE = Figure(
    name="control",
    title="Every rank and rule at its own best learning rate",
    order=8,
    claim="At a high rank rsLoRA fine-tunes better than LoRA: the claim of the article, here with each rule at a learning rate of its own.",
    source="the claim: arXiv 2312.03732; this control: not in what could be read of it",
    prediction=foretell,
    cells=cells,
    judge=judge,
    draw=draw,
)
