"""Adapters on the attention's linears alone."""

from __future__ import annotations

from typing import Any

from rsverify.studies.reproduce.figure import Figure, Foretold
from rsverify.studies.reproduce.figures import gradient_norm, perplexity
from rsverify.studies.reproduce.judging import Finding, conclude
from rsverify.studies.reproduce.plan import LORA, RSLORA, Plan
from rsverify.studies.reproduce.runs import Family, Results
from rsverify.sweep import Cell

ATTENTION = "q,k,v,o"
FAMILIES = tuple(Family(rule, targets=ATTENTION) for rule in (LORA, RSLORA))


def cells(plan: Plan, results: Results) -> list[Cell]:
    return [cell for family in FAMILIES for cell in family.cells(plan)]


def judge(plan: Plan, results: Results, foretold: Foretold) -> Finding:
    parts = [*perplexity.parts(plan, results, *FAMILIES), *(gradient_norm.at_init(plan, results, f) for f in FAMILIES)]
    named = {perplexity.NAMES[f.rule]: f for f in FAMILIES}
    remark = f"Judged at one learning rate, {plan.lr:g}."
    return conclude(parts, remark=remark, tables=perplexity.loss_tables(plan, results, named))


def draw(plan: Plan, results: Results, foretold: Foretold) -> Any:
    return perplexity.draw(plan, results, foretold, families=FAMILIES)


FIGURE = Figure(
    name="attention-only",
    title="Adapters on attention alone",
    order=4,
    claim="With adapters on the attention's linears only, the picture is the same: rsLoRA gains from rank, LoRA does not.",
    source="arXiv 2312.03732, an ablation as notes on it describe it; its figure and setting: not seen",
    prediction=lambda plan: perplexity.foretell(plan, FAMILIES),
    cells=cells,
    judge=judge,
    draw=draw,
)
