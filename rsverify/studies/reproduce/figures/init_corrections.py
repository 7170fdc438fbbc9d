"""Correcting A's init instead of gamma, in all three readings."""

from __future__ import annotations

import math
from typing import Any

from rsverify.studies.reproduce import drawing
from rsverify.studies.reproduce.figure import Figure, Foretold
from rsverify.studies.reproduce.figures import gradient_norm, perplexity
from rsverify.studies.reproduce.judging import Finding, ask, conclude
from rsverify.studies.reproduce.plan import LORA, MARGIN, RSLORA, Plan
from rsverify.studies.reproduce.runs import Family, Results, less
from rsverify.sweep import Cell

READINGS = {
    "alpha/r, std of A times r**-1/2": Family(LORA, init="1/sqrt(r)"),
    "alpha, std of A times r**-1/2": Family("alpha", init="1/sqrt(r)"),
    "alpha/r, std of A times r**1/2": Family(LORA, init="sqrt(r)"),
}
"""The first is what the notes say; the others are what else "correcting A's init by the root of r" could mean."""


def cells(plan: Plan, results: Results) -> list[Cell]:
    return [
        *(cell for family in READINGS.values() for cell in family.cells(plan, judged=[plan.high])),
        *Family(RSLORA).cells(plan, swept=True, named=True),
    ]


def judge(plan: Plan, results: Results, foretold: Foretold) -> Finding:
    rslora = Family(RSLORA)
    parts = []
    for name, family in READINGS.items():
        behind = less(results.losses(family, plan.high), results.losses(rslora, plan.high))
        parts.append(
            ask(
                f"{name}: held-out loss at rank {plan.high} less rsLoRA's there, above {MARGIN:.4f}",
                plan, behind, (MARGIN, math.inf), short=f"{name} is worse than rsLoRA at rank {plan.high}",
            )
        )  # fmt: skip
    parts += [gradient_norm.at_init(plan, results, family, deciding=False) for family in READINGS.values()]
    tables = perplexity.loss_tables(plan, results, {**READINGS, "rsLoRA": rslora})
    remark = "The readings whose gamma and std multiply to r**-1/2 start where rsLoRA starts and differ from it only in how fast A moves."
    return conclude(parts, remark=remark, tables=tables)


def foretell(plan: Plan) -> Foretold:
    return perplexity.foretell(plan, (*READINGS.values(), Family(RSLORA)))


def draw(plan: Plan, results: Results, foretold: Foretold) -> Any:
    figure, axes = drawing.panels(3)
    for panel, (name, family) in zip(axes[0], READINGS.items(), strict=True):
        drawing.curves(panel, plan, results, family, curve="loss", title=f"{name}, lr {plan.lr:g}")
        panel.set_ylabel("perplexity of the batches")
    axes[0][-1].legend(fontsize=8)
    return figure


FIGURE = Figure(
    name="init-corrections",
    title="Correcting A's init instead of gamma",
    order=5,
    claim="Keeping gamma = alpha/r and scaling the init of A by 1/sqrt(r) does not replace rsLoRA: it is unstable or worse at large rank.",
    source="arXiv 2312.03732, section B.3, as notes on it describe it in a sentence; which of three readings was run: not seen, so all are",
    prediction=foretell,
    cells=cells,
    judge=judge,
    draw=draw,
)
