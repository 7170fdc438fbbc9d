"""The control under SGD, of which the article's theorem speaks: every narrow rank and both rules at their own best learning rates."""

from __future__ import annotations

from typing import Any

from rsverify.studies.reproduce import drawing, sweeping, theory
from rsverify.studies.reproduce.figure import Figure, Foretold
from rsverify.studies.reproduce.figures import control
from rsverify.studies.reproduce.figures.perplexity import NAMES
from rsverify.studies.reproduce.judging import Finding, conclude
from rsverify.studies.reproduce.plan import Plan
from rsverify.studies.reproduce.runs import Family, Results
from rsverify.sweep import Cell

FAMILIES = tuple(Family(rule, "sgd") for rule in NAMES)


def cells(plan: Plan, results: Results) -> list[Cell]:
    return sweeping.cells(plan, results, FAMILIES, wide=up_to_width(plan))


def up_to_width(plan: Plan) -> list[int]:
    """The wide ranks that do not exceed the base's width."""
    return [rank for rank in plan.wide if rank <= drawing.WIDTH]


def judge(plan: Plan, results: Results, foretold: Foretold) -> Finding:
    parts = control.losses_at_best(plan, results, FAMILIES, deciding=True)
    ranks = control.judged(plan)
    parts += [part for family in FAMILIES if (part := control.exponent(plan, results, family, ranks, deciding=True))]
    remark = f"With tuned rates: {control.said(parts)}. {control.how_judged(plan)} Ranks above the widths are not swept under SGD."
    table = control.rate_table(plan, results, FAMILIES, (*plan.narrow, *up_to_width(plan)), plan.all_seeds)
    return conclude(parts, remark=remark, tables=(table,))


def foretell(plan: Plan) -> Foretold:
    found = {f.rule: theory.lr_exponent(f) for f in FAMILIES}
    said = "; ".join(f"under {NAMES[rule]} as r**({q})" for rule, q in found.items())
    return Foretold(
        (
            f"The first step of SGD keeps its size where the learning rate goes {said}. If the optimum follows the first step, one rate"
            " serves every rank where that power is 0. At their own best rates the two rules then make the same first step; A moves the"
            " faster the larger the rate, and theory does not say what that is worth.",
        ),
        {rule: str(q) for rule, q in found.items()},
    )


def draw(plan: Plan, results: Results, foretold: Foretold) -> Any:
    return control.draw_sweeps(plan, results, FAMILIES, (*plan.narrow, *up_to_width(plan)))


FIGURE = Figure(
    name="control-sgd",
    title="Every rank and rule at its own best learning rate under SGD",
    order=9,
    claim=(
        "Under SGD one learning rate serves every rank of rsLoRA, while LoRA's must grow with the rank; and at a high rank rsLoRA"
        " fine-tunes better than LoRA, each at a learning rate of its own."
    ),
    source=(
        "arXiv 2312.03732, Theorem 3.2 as notes quote it, for the learning rate; that the better rule stays better at rates of their own is"
        " the article's claim carried over: no such run in it was seen"
    ),
    prediction=foretell,
    cells=cells,
    judge=judge,
    draw=draw,
)
