"""The control that the article lacks: every rank and rule at its own best learning rate, under AdamW."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from rsverify.studies.reproduce import drawing, sweeping, theory
from rsverify.studies.reproduce.figure import Figure, Foretold
from rsverify.studies.reproduce.figures import perplexity
from rsverify.studies.reproduce.figures.perplexity import FAMILIES, NAMES
from rsverify.studies.reproduce.judging import Finding, Part, ask, ask_exponent, conclude
from rsverify.studies.reproduce.plan import MARGIN, Plan
from rsverify.studies.reproduce.runs import Family, Results, less
from rsverify.sweep import Cell


def cells(plan: Plan, results: Results) -> list[Cell]:
    return sweeping.cells(plan, results, FAMILIES, wide=plan.wide)


def losses_at_best(plan: Plan, results: Results, families: Sequence[Family], *, deciding: bool) -> list[Part]:
    """LoRA's and rsLoRA's held-out losses at rates of their own, against each other and against rank."""
    lora, rslora = families
    best = {f: {rank: sweeping.losses_at_best(plan, results, f, rank) for rank in (plan.low, plan.high)} for f in families}
    ahead = less(best[rslora][plan.high], best[lora][plan.high])
    parts = [
        ask(
            f"rank {plan.high}, each rule at its own best lr: held-out loss of rsLoRA less that of LoRA, below -{MARGIN:.4f}",
            plan, ahead, (-math.inf, -MARGIN), deciding=deciding,
            short=f"at rank {plan.high} rsLoRA at its best rate is better than LoRA at its best",
        ),
        ask(
            f"the same difference, within +-{MARGIN:.4f}", plan, ahead, (-MARGIN, MARGIN), deciding=False,
            short=f"at rank {plan.high} the two rules are equally good at their own best rates",
        ),
    ]  # fmt: skip
    for family in families:
        name = NAMES[family.rule]
        gain = less(best[family][plan.high], best[family][plan.low])
        parts.append(
            ask(
                f"{name} at its own best lr: held-out loss at rank {plan.high} less that at rank {plan.low}, below -{MARGIN:.4f}",
                plan, gain, (-math.inf, -MARGIN), deciding=False, short=f"{name} at its best rate gains from rank",
            )
        )  # fmt: skip
    return parts


def exponent(plan: Plan, results: Results, family: Family, ranks: Sequence[int], *, deciding: bool) -> Part | None:
    """The power of r with which the best learning rate goes, against that which keeps the first step's size; None where theory has none.

    A rank whose best rate is the last one tried leaves the question open: its optimum may lie beyond.
    """
    foretold = theory.lr_exponent(family)
    if foretold is None:
        return None
    name = NAMES[family.rule]
    above = ranks[-1] in plan.wide
    start = f"{name}, ranks above d/2 with the others" if above else name
    says = f"{start}: exponent in r of the best lr over ranks {ranks[0]} to {ranks[-1]}, within 0.1 of theory's {foretold}"
    short = f"{name}'s best rate goes as r**({foretold})" + (f" up to rank {ranks[-1]}" if above else "")
    if beyond := [rank for rank in ranks if sweeping.at_an_end(plan, results, family, rank)]:
        note = f"the best rate of rank {', '.join(map(str, beyond))} is the last one tried: the optimum may lie beyond"
        return Part(says, "open", short=short, unit="power of r", theory=str(foretold), deciding=deciding, note=note)
    return ask_exponent(says, plan, sweeping.exponents(plan, results, family, ranks), foretold, short=short, deciding=deciding)


def rate_table(plan: Plan, results: Results, families: Sequence[Family], ranks: Sequence[int], seeds: Sequence[int]) -> dict[str, Any]:
    """Best learning rates and the perplexity at them, over those of the seeds on which a rank was swept."""
    rows = []
    for rank in ranks:
        swept = [seed for seed in seeds if seed in plan.seeds_of(rank)]
        row = [f"{rank}{' (above the width)' if rank > drawing.WIDTH else ' (above d/2)' if rank > plan.high else ''}"]
        for family in families:
            rate = math.exp(np.mean([sweeping.optimum(results, family, rank, seed) for seed in swept]))
            best = sweeping.losses_at_best(plan, results, family, rank)
            row.append(f"{rate:.3g}{' (the last one tried)' if sweeping.at_an_end(plan, results, family, rank) else ''}")
            row.append(f"{math.exp(np.mean([best[seed] for seed in swept])):.3f} ({len(swept)} seeds)")
        rows.append(row)
    columns = ["rank", *(f"{NAMES[f.rule]}, {what}" for f in families for what in ("best lr", "perplexity at it"))]
    return {"title": "Best learning rate (geometric mean over seeds) and held-out perplexity there", "columns": columns, "rows": rows}


def judged(plan: Plan) -> list[int]:
    """Ranks that decide: at most d/2."""
    return [rank for rank in plan.narrow if rank <= plan.high]


def said(parts: Sequence[Part]) -> str:
    return "; ".join(f"{part.short}: {part.answer}" for part in parts if not part.deciding)


def judge(plan: Plan, results: Results, foretold: Foretold) -> Finding:
    ranks = (*plan.narrow, *plan.wide)
    parts = losses_at_best(plan, results, FAMILIES, deciding=True)
    for family in FAMILIES:
        spans = [judged(plan), *([ranks] if plan.wide else [])]
        parts += [part for span in spans if (part := exponent(plan, results, family, span, deciding=False))]
    tables = [rate_table(plan, results, FAMILIES, ranks, plan.all_seeds)]
    shared = [seed for seed in plan.swept_seeds if all(seed in plan.seeds_of(rank) for rank in ranks)]
    if len(shared) < len(plan.swept_seeds):
        tables.append({**rate_table(plan, results, FAMILIES, ranks, shared), "title": perplexity.alike(shared)})
    remark = f"With tuned rates: {said(parts)}. {how_judged(plan)}"
    if plan.wide:
        counts = " and ".join(dict.fromkeys(str(len(plan.seeds_of(rank)) // plan.repeats) for rank in plan.wide))
        remark += f" Ranks above d/2 are swept in octaves on the first {counts} seeds of each repeat, and decide nothing."
    return conclude(parts, remark=remark, tables=tuple(tables))


def how_judged(plan: Plan) -> str:
    """On which seeds a learning rate is chosen and on which it is judged."""
    each = f"Learning rates are swept on {min(plan.swept, plan.seeds)} seeds of each repeat; each seed is judged at the rate that served"
    return f"{each} the other repeat's best."


def foretell(plan: Plan) -> Foretold:
    found = {f.rule: theory.lr_exponent(f) for f in FAMILIES}
    said = "; ".join(f"under {NAMES[rule]} as r**({q})" for rule, q in found.items())
    return Foretold(
        (
            f"The first step of AdamW keeps its size where the learning rate goes {said}. If the optimum follows the first step, then at"
            " their own best rates the two rules make the same first step, and differ only in how fast A moves.",
        ),
        {rule: str(q) for rule, q in found.items()},
    )


def draw(plan: Plan, results: Results, foretold: Foretold) -> Any:
    return draw_sweeps(plan, results, FAMILIES, (*plan.narrow, *plan.wide))


def draw_sweeps(plan: Plan, results: Results, families: Sequence[Family], ranks: Sequence[int]) -> Any:
    """Held-out perplexity against the learning rate under each rule, and the best rate against rank; dashed above the widths."""
    figure, axes = drawing.panels(3)
    for panel, family in zip(axes[0], families, strict=False):
        for rank, colour in drawing.rank_colours(ranks).items():
            rates = results.rates(family, rank)
            swept = plan.seeds_of(rank)
            means = [math.exp(sweeping.mean_loss(results, sweeping.at(family, lr), rank, swept)) for lr in rates]
            label = f"r = {rank}{f' ({len(swept)} seeds)' if rank in plan.wide else ''}"
            style = "--" if rank > drawing.WIDTH else "-"
            panel.plot(rates, means, color=colour, marker=".", linewidth=1.1, linestyle=style, label=label)
        drawing.log_rates(panel)
        panel.set_ylabel("held-out perplexity")
        panel.set_title(f"{NAMES[family.rule]}, {family.optimizer}, {len(plan.swept_seeds)} seeds", fontsize=10)
    drawn = [value for panel in axes[0][:2] for line in panel.lines for value in line.get_ydata()]
    for panel in axes[0][:2]:
        # Runs at rates that diverge would leave the valleys flat: what ends beyond 1.5 times the best perplexity is off the picture.
        panel.set_ylim(0.98 * min(drawn), min(1.02 * max(drawn), 1.5 * min(drawn)))
        drawing.plain(panel.yaxis)
    axes[0][0].legend(fontsize=8)
    for index, family in enumerate(families):
        curves = {
            seed: [math.exp(sweeping.optimum(results, family, r, seed)) if seed in plan.seeds_of(r) else None for r in ranks]
            for seed in plan.swept_seeds
        }
        power = theory.lr_exponent(family)
        drawing.against_rank(
            axes[0][2], ranks, curves, label=f"{NAMES[family.rule]} (theory r**{power})", index=index,
            exponent=None if power is None else float(power),
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
