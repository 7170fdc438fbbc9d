"""Stable rank and participation ratio of what was learned, against the rank it was given."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from rsverify.studies.reproduce import drawing
from rsverify.studies.reproduce.figure import Figure, Foretold
from rsverify.studies.reproduce.figures import perplexity
from rsverify.studies.reproduce.judging import Finding, ask, conclude
from rsverify.studies.reproduce.plan import RSLORA, Plan
from rsverify.studies.reproduce.runs import Results
from rsverify.symbolic.answers.limit import limit_of_rank

MEASURES = {"stable_rank": "stable rank", "participation": "participation ratio"}


def judge(plan: Plan, results: Results, foretold: Foretold) -> Finding:
    parts = []
    for family in perplexity.FAMILIES:
        name = perplexity.NAMES[family.rule]
        low, high = results.runs(family, plan.low), results.runs(family, plan.high)
        for measure, words in MEASURES.items():
            growth = {s: _growth(low[s][measure], high[s][measure]) for s in plan.all_seeds if s in low and s in high}
            grows = family.rule == RSLORA
            side = "above" if grows else "below"
            parts.append(
                ask(
                    f"{name}: doublings of the learned update's {words} from rank {plan.low} to {plan.high}, {side} 1",
                    plan,
                    growth,
                    (1.0, math.inf) if grows else (-math.inf, 1.0),
                    unit="doublings",
                    deciding=measure == "stable_rank",
                    short=f"under {name} the learned update's {words} {'more than' if grows else 'does not'} double{'s' * grows}",
                )
            )
    rows = []
    for rank in results.ranks(perplexity.FAMILIES[0]):
        row = [str(rank)]
        for family in perplexity.FAMILIES:
            for measure in MEASURES:
                values = [run[measure] for run in results.runs(family, rank).values() if run[measure] is not None]
                row.append(f"{np.mean(values):.3g}" if values else "-")
        rows.append(row)
    columns = ["rank", *(f"{perplexity.NAMES[f.rule]}, {words}" for f in perplexity.FAMILIES for words in MEASURES.values())]
    table = {"title": f"Mean over linears and seeds, after {plan.steps} steps of AdamW at lr {plan.lr:g}", "columns": columns, "rows": rows}
    return conclude(parts, tables=(table,))


def _growth(low: float | None, high: float | None) -> float:
    return math.nan if low is None or high is None else math.log2(high / low)


def foretell(plan: Plan) -> Foretold:
    limits = {rule: limit_of_rank("lora", rule).kind for rule in perplexity.NAMES}
    return Foretold(
        (
            "Neither measure exceeds r. Under SGD the update tends to one direction of its own, "
            + "; ".join(f"{rule}: {kind}" for rule, kind in limits.items())
            + ", so both measures level off at those of the full gradient. Under AdamW theory is silent on spectra.",
        ),
        {"limits": limits},
    )


def draw(plan: Plan, results: Results, foretold: Foretold) -> Any:
    figure, axes = drawing.panels(2)
    for panel, (measure, words) in zip(axes[0], MEASURES.items(), strict=True):
        for index, family in enumerate(perplexity.FAMILIES):
            ranks = results.ranks(family)
            seeds = [s for s in plan.all_seeds if all(results.run(family, r, s) for r in ranks)]
            values = {s: [(results.run(family, r, s) or {}).get(measure) for r in ranks] for s in seeds}
            drawing.against_rank(panel, ranks, values, label=perplexity.NAMES[family.rule], index=index)
        drawing.log_ranks(panel)
        panel.set_ylabel(f"{words} of the learned update")
        panel.legend(fontsize=8)
    return figure


FIGURE = Figure(
    name="spectra",
    title="Stable rank of what was learned",
    order=11,
    claim="Given more rank, rsLoRA learns an update of more directions, while LoRA stays on a manifold of few.",
    source="an open question about the fine-tuning manifold that the article's results raise; its wording there: not seen",
    prediction=foretell,
    cells=perplexity.cells,
    judge=judge,
    draw=draw,
)
