"""Perplexity against step and rank, for both rules, under AdamW at one learning rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rsverify.studies.reproduce import drawing, theory
from rsverify.studies.reproduce.figure import Figure, Foretold
from rsverify.studies.reproduce.judging import Finding, Part, ask, conclude
from rsverify.studies.reproduce.plan import LORA, MARGIN, RSLORA, Plan
from rsverify.studies.reproduce.runs import Family, Results, less
from rsverify.sweep import Cell

NAMES = {LORA: "LoRA", RSLORA: "rsLoRA"}
FAMILIES = tuple(Family(rule) for rule in NAMES)


def foretell(plan: Plan, families: Sequence[Family] = FAMILIES) -> Foretold:
    ranks = {"low": plan.low, "high": plan.high}
    return Foretold(tuple(theory.in_words(f, **ranks) for f in families), {"families": [theory.says(f) for f in families]})


def parts(plan: Plan, results: Results, lora: Family, rslora: Family) -> list[Part]:
    """Does more rank buy quality under rsLoRA, not under LoRA, and is rsLoRA the better at the high rank?"""
    low, high = plan.low, plan.high
    gains = {f: less(results.losses(f, high), results.losses(f, low)) for f in (lora, rslora)}
    ahead = less(results.losses(rslora, high), results.losses(lora, high))
    return [
        ask(
            f"rsLoRA: held-out loss at rank {high} less that at rank {low}, below -{MARGIN:.4f}",
            plan,
            gains[rslora],
            (-math.inf, -MARGIN),
            short=f"under rsLoRA rank {high} is better than rank {low}",
        ),
        ask(
            f"LoRA: held-out loss at rank {high} less that at rank {low}, within +-{MARGIN:.4f}",
            plan,
            gains[lora],
            (-MARGIN, MARGIN),
            short=f"under LoRA rank {high} is as good as rank {low}",
        ),
        ask(
            f"rank {high}: held-out loss of rsLoRA less that of LoRA, below -{MARGIN:.4f}",
            plan,
            ahead,
            (-math.inf, -MARGIN),
            short=f"at rank {high} rsLoRA is better than LoRA",
        ),
    ]


def loss_tables(plan: Plan, results: Results, named: dict[str, Family]) -> tuple[dict[str, Any], ...]:
    """Held-out perplexity of every rank over all of its seeds; and again over seeds that all ranks have, where some have fewer."""
    first = loss_table(plan, results, named)
    counts = {len(results.runs(f, rank)) for f in named.values() for rank in results.ranks(f)}
    if len(counts) == 1:
        return (first,)
    shared = [s for s in plan.all_seeds if all(s in results.runs(f, rank) for f in named.values() for rank in results.ranks(f))]
    return (first, {**loss_table(plan, results, named, shared), "title": alike(shared)})


def loss_table(plan: Plan, results: Results, named: dict[str, Family], seeds: Sequence[int] | None = None) -> dict[str, Any]:
    """Held-out perplexity of every rank, mean over its seeds, or over those given."""
    ranks = sorted({rank for f in named.values() for rank in results.ranks(f)})
    rows = []
    for rank in ranks:
        row = [f"{rank}{' (above the width)' if rank > drawing.WIDTH else ' (above d/2)' if rank > drawing.WIDTH // 2 else ''}"]
        for family in named.values():
            losses = [loss for seed, loss in results.losses(family, rank).items() if seeds is None or seed in seeds]
            runs = results.runs(family, rank)
            diverged = sum(run["diverged"] is not None for seed, run in runs.items() if seeds is None or seed in seeds)
            mean = math.exp(sum(losses) / len(losses)) if losses else None
            row.append("-" if mean is None else f"{mean:.3f} ({len(losses)} seeds{f', {diverged} diverged' if diverged else ''})")
        rows.append(row)
    return {"title": "Held-out perplexity (of a byte)", "columns": ["rank", *named], "rows": rows}


def judge(plan: Plan, results: Results, foretold: Foretold) -> Finding:
    lora, rslora = FAMILIES
    named = {NAMES[f.rule]: f for f in FAMILIES}
    remark = f"Judged at one learning rate, {plan.lr:g}; the figure of the control gives each rule its own."
    return conclude(parts(plan, results, lora, rslora), remark=remark, tables=loss_tables(plan, results, named))


def alike(seeds: Sequence[int]) -> str:
    """The title of a table's second copy, which lets all ranks be compared."""
    count = f"the {len(seeds)} seeds" if len(seeds) > 1 else "the one seed"
    return f"The same on {count} that every rank has: seeds differ in their data"


def draw(plan: Plan, results: Results, foretold: Foretold, families: Sequence[Family] = FAMILIES, curve: str = "loss") -> Any:
    figure, axes = drawing.panels(len(families))
    for panel, family in zip(axes[0], families, strict=True):
        title = f"{NAMES.get(family.rule, family.rule)}, {family.optimizer}, lr {family.rate(plan):g}"
        drawing.curves(panel, plan, results, family, curve=curve, title=title)
        panel.set_ylabel("perplexity of the batches" if curve == "loss" else "gradient norm")
    limits = [panel.get_ylim() for panel in axes[0]]
    for panel in axes[0]:
        panel.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
        drawing.plain(panel.yaxis)
    axes[0][-1].legend(fontsize=8)
    return figure


def cells(plan: Plan, results: Results) -> list[Cell]:
    return [cell for family in FAMILIES for cell in family.cells(plan, swept=True, named=True)]


FIGURE = Figure(
    name="perplexity",
    title="Perplexity against step and rank",
    order=1,
    claim=(
        "Fine-tuned with AdamW at one learning rate, rsLoRA reaches a lower perplexity the higher the rank, while LoRA gains nothing"
        " from rank."
    ),
    source=(
        "arXiv 2312.03732, Figure 2, as notes on it describe it (Llama 2 7B, 20,000 examples of OpenOrca, ranks 4 to 2048); the article's"
        " text, its batch size, alpha, sequence length and number of steps: not seen"
    ),
    prediction=foretell,
    cells=cells,
    judge=judge,
    draw=draw,
)
