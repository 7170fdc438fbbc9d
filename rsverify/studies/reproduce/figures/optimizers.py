"""SGD and Adafactor in the place of AdamW."""

from __future__ import annotations

import math
from typing import Any

from rsverify.studies.reproduce import drawing, theory
from rsverify.studies.reproduce.figure import Figure, Foretold
from rsverify.studies.reproduce.figures import gradient_norm, perplexity
from rsverify.studies.reproduce.judging import Finding, ask, conclude
from rsverify.studies.reproduce.plan import LORA, MARGIN, RSLORA, Plan
from rsverify.studies.reproduce.runs import Family, Results, less
from rsverify.sweep import Cell

OPTIMIZERS = ("sgd", "adafactor")
FAMILIES = tuple(Family(rule, optimizer) for optimizer in OPTIMIZERS for rule in (LORA, RSLORA))


def cells(plan: Plan, results: Results) -> list[Cell]:
    return [cell for family in FAMILIES for cell in family.cells(plan, swept=family.optimizer == "sgd")]


def judge(plan: Plan, results: Results, foretold: Foretold) -> Finding:
    parts = [gradient_norm.at_init(plan, results, family) for family in FAMILIES if family.optimizer == "sgd"]
    for optimizer in OPTIMIZERS:
        lora, rslora = Family(LORA, optimizer), Family(RSLORA, optimizer)
        ahead = less(results.losses(rslora, plan.high), results.losses(lora, plan.high))
        gain = less(results.losses(rslora, plan.high), results.losses(rslora, plan.low))
        parts += [
            ask(
                f"{optimizer}, rank {plan.high}: held-out loss of rsLoRA less that of LoRA, below -{MARGIN:.4f}",
                plan, ahead, (-math.inf, -MARGIN), short=f"under {optimizer} rsLoRA is better than LoRA at rank {plan.high}",
            ),
            ask(
                f"{optimizer}, rsLoRA: held-out loss at rank {plan.high} less that at rank {plan.low}, below -{MARGIN:.4f}",
                plan, gain, (-math.inf, -MARGIN), short=f"under {optimizer} rsLoRA gains from rank", deciding=optimizer == "adafactor",
            ),
        ]  # fmt: skip
    named = {f"{perplexity.NAMES[f.rule]}, {f.optimizer}": f for f in FAMILIES}
    remark = "The gradient norm at init is the same number for every optimizer: before a step none has acted."
    return conclude(parts, remark=remark, tables=perplexity.loss_tables(plan, results, named))


def draw(plan: Plan, results: Results, foretold: Foretold) -> Any:
    figure, axes = drawing.panels(2, 2)
    for panel, family in zip(axes.flat, FAMILIES, strict=True):
        title = f"{perplexity.NAMES[family.rule]}, {family.optimizer}, lr {family.rate(plan):g}"
        drawing.curves(panel, plan, results, family, curve="loss", title=title)
        panel.set_ylabel("perplexity of the batches")
    axes[0][1].legend(fontsize=8)
    return figure


def foretell(plan: Plan) -> Foretold:
    found = perplexity.foretell(plan, FAMILIES)
    rules = {optimizer: theory.stable_rule(optimizer) for optimizer in OPTIMIZERS}
    stable = "; ".join(f"under {optimizer} the update keeps its size at gamma = r**-({p})" for optimizer, p in rules.items())
    return Foretold((*found.sentences, f"At a learning rate free of the rank {stable}."), found.numbers)


FIGURE = Figure(
    name="optimizers",
    title="SGD and Adafactor instead of AdamW",
    order=3,
    claim=(
        "The picture is that of AdamW: under SGD the gradient norms depend on rank in the same way, and under Adafactor rsLoRA gains from"
        " rank."
    ),
    source=(
        "arXiv 2312.03732, Figures 4 (SGD: gradient norms) and 5 (GPT-J 6B on GSM8K under Adafactor) as notes on it describe them; learning"
        " rates: not seen"
    ),
    prediction=foretell,
    cells=cells,
    judge=judge,
    draw=draw,
)
