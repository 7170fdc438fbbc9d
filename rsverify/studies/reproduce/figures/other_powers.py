"""Other powers of the rank in gamma: -1/4, -2 and 0."""

from __future__ import annotations

import math
from typing import Any

from rsverify.studies.reproduce import drawing
from rsverify.studies.reproduce.figure import Figure, Foretold
from rsverify.studies.reproduce.figures import gradient_norm, perplexity
from rsverify.studies.reproduce.judging import Finding, ask, conclude
from rsverify.studies.reproduce.plan import EXPONENT_MARGIN, MARGIN, RSLORA, Plan
from rsverify.studies.reproduce.runs import Family, Results, less
from rsverify.sweep import Cell

RULES = ("alpha/r**0.25", "alpha/r**2", "alpha")
FAMILIES = tuple(Family(rule) for rule in RULES)


def cells(plan: Plan, results: Results) -> list[Cell]:
    return [
        *(cell for family in FAMILIES for cell in family.cells(plan, judged=[plan.high])),
        *Family(RSLORA).cells(plan, swept=True, named=True),
    ]


def judge(plan: Plan, results: Results, foretold: Foretold) -> Finding:
    rslora = Family(RSLORA)
    parts = []
    for family in FAMILIES:
        behind = less(results.losses(family, plan.high), results.losses(rslora, plan.high))
        parts.append(
            ask(
                f"{family.rule}: held-out loss at rank {plan.high} less rsLoRA's there, above {MARGIN:.4f}",
                plan, behind, (MARGIN, math.inf), short=f"{family.rule} is worse than rsLoRA at rank {plan.high}",
            )
        )  # fmt: skip
    parts += [gradient_norm.at_init(plan, results, family) for family in FAMILIES]
    tables = perplexity.loss_tables(plan, results, {**{f.rule: f for f in FAMILIES}, "rsLoRA": rslora})
    remark = (
        f"That the norms at init are not stable is settled where an exponent differs from 0 by more than {EXPONENT_MARGIN:g}; what they"
        " do to the loss after some steps of AdamW depends on the learning rate."
    )
    return conclude(parts, remark=remark, tables=tables)


def draw(plan: Plan, results: Results, foretold: Foretold) -> Any:
    figure, axes = drawing.panels(3)
    for panel, family in zip(axes[0], FAMILIES, strict=True):
        drawing.curves(panel, plan, results, family, curve="loss", title=f"{family.rule}, lr {plan.lr:g}")
        panel.set_ylabel("perplexity of the batches")
    axes[0][-1].legend(fontsize=8)
    return figure


FIGURE = Figure(
    name="other-powers",
    title="Other powers of the rank",
    order=6,
    claim="Only gamma of order r**-1/2 is stable: a higher power of r makes learning unstable, a lower one lets it collapse at large rank.",
    source="arXiv 2312.03732, Theorem 3.2 as notes quote it; whether the article ran these powers (-1/4, -2, 0): not seen",
    prediction=lambda plan: perplexity.foretell(plan, FAMILIES),
    cells=cells,
    judge=judge,
    draw=draw,
)
