"""`rsverify budget`: the highest rank that fits into a memory, and the bill."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

from rsverify.cli.options import Json, OneOptimizer, Seed, Whole, refuse_unwritable, write_json


def budget(
    model: Annotated[str, Parameter(help="Folder with a Hugging Face config.json, or hub name; no weights are read.")],
    *,
    memory: Annotated[str, Parameter(help="Memory of the device, e.g. 24GiB or 80GB.")],
    optimizer: OneOptimizer = "adamw",
    dtype: Annotated[str, Parameter(help="Of the base: bf16, fp16 or fp32.")] = "bf16",
    adapter_dtype: Annotated[str, Parameter(help="Of adapters, their gradients and optimizer state.")] = "fp32",
    tokens: Annotated[Whole, Parameter(help="Tokens of a step, all sequences together.")] = 4096,
    sequences: Annotated[Whole, Parameter(help="Sequences of a step, of equal length.")] = 1,
    targets: Annotated[str, Parameter(help="Endings of the linears that get adapters, with commas; or all-linear.")] = "all-linear",
    attention: Annotated[str, Parameter(help="flash (fused kernels, no scores stored) or eager.")] = "flash",
    checkpointing: Annotated[bool, Parameter(help="Recompute activations in the backward pass.")] = False,
    accumulate: Annotated[bool, Parameter(help="Gradients stay allocated between steps.")] = False,
    reserve: Annotated[str, Parameter(help="Left free for the driver's context and fragmentation.")] = "1GiB",
    rank: Annotated[
        Whole | None, Parameter(help="The rank in use, from which alpha and lr are carried over [8, or the highest if less].")
    ] = None,
    alpha: Annotated[float, Parameter(help="The alpha in use.")] = 16.0,
    lr: Annotated[float, Parameter(help="The learning rate in use.")] = 2e-4,
    rule: Annotated[str, Parameter(help="The scaling rule in use.")] = "alpha/r",
    to_rule: Annotated[str, Parameter(help="The rule to compare it with on the way.")] = "alpha/sqrt(r)",
    seed: Seed = 0,
    json: Json = None,
) -> int:
    """Say the highest LoRA rank whose training step fits into a memory, with the bill, from a model's config alone.

    Then what alpha and learning rate every rank on the way there wants, from those in use, under two rules.

    Exit code 0 = some rank fits, 2 = not even rank 1 does, or bad input. The seed is taken for uniformity; nothing is drawn.

    For example:

    - `rsverify budget ./my-model --memory 24GiB`
    - `rsverify budget ./my-model --memory 24GiB --optimizer adamw --dtype bf16 --tokens 4096 --checkpointing`
    """
    from rich.console import Console
    from rich.table import Table

    from rsverify.records import to_json
    from rsverify.studies.budget import budget as study
    from rsverify.studies.budget import shown

    refuse_unwritable(json)
    names = targets if targets == "all-linear" else [name.strip() for name in targets.split(",")]
    found = study(
        model, memory, optimizer=optimizer, dtype=dtype, adapter_dtype=adapter_dtype, tokens=tokens, sequences=sequences, targets=names,
        attention=attention, checkpointing=checkpointing, accumulate=accumulate, reserve=reserve,
    )  # fmt: skip
    table = Table(
        title=f"{found.model}: one step of {tokens} tokens, {optimizer}, base {dtype}, adapters {adapter_dtype}", title_justify="left"
    )
    for heading in ("rank", "base", "adapters", "gradients", "optimizer", "activations", "total", "fits"):
        table.add_column(heading, justify="right")
    for tried, bill in found.bills:
        parts = (bill.base, bill.adapters, bill.gradients, bill.optimizer, bill.activations, bill.total)
        fits = "yes" if bill.total <= found.memory - found.reserve else "no"
        table.add_row(str(tried), *(shown(part) for part in parts), fits, style="bold" if tried == found.rank else "")
    console = Console()
    console.print(table)
    console.print(
        f"Highest rank that fits into {shown(found.memory)} less {shown(found.reserve)} in reserve: [bold]{found.rank}[/bold] "
        f"({found.rank * found.parameters_per_rank:,} trained parameters on {len(found.targets)} linears).",
        highlight=False,
    )
    if found.rank > found.width:
        console.print(
            f"Above rank {found.width}, the smallest width of an adapted layer, only the effective learning rate grows: nothing is gained "
            f"beyond it that a larger lr does not give.",
            highlight=False,
        )
    console.print("All at the step's peak. Not counted: kernels' own workspaces and what the reserve is for.", highlight=False)
    rank = min(8, found.rank) if rank is None else rank
    stops = _climb(found, rank=rank, alpha=alpha, lr=lr, rules=(rule,) if rule == to_rule else (rule, to_rule), console=console)
    write_json({**as_json(found), "way": [to_json(stop) for stop in stops]}, json)
    return 0


def _climb(found: Any, *, rank: int, alpha: float, lr: float, rules: tuple[str, ...], console: Any) -> tuple[Any, ...]:
    """Print what `transfer` says of every rank on the way; where theory is silent, say so and why."""
    from rich.table import Table

    from rsverify.errors import NotDerivable
    from rsverify.studies.climb import climb

    try:
        stops = climb(found, rank=rank, alpha=alpha, lr=lr, rules=rules)
    except NotDerivable as silent:
        console.print(f"Alpha and lr on the way: theory does not say. {silent}", markup=False, highlight=False)
        return ()
    table = Table(
        title=f"On the way from rank {rank}, alpha {alpha:g}, lr {lr:g}, {rules[0]} with {found.optimizer}: what leaves the first step so",
        title_justify="left",
    )
    table.add_column("rank", justify="right")
    for way in stops[0].transfers:
        table.add_column(f"lr under {way.to_rule}, alpha {way.to_alpha:.4g}", justify="right")
        table.add_column(f"or alpha at lr {lr:g}", justify="right")
    for stop in stops:
        cells = [cell for way in stop.transfers for cell in (_lr(way), _alpha(way))]
        table.add_row(f"{stop.rank}{' *' if stop.beyond else ''}", *cells)
    console.print(table)
    if any(way.to_lr_range for stop in stops for way in stop.transfers):
        console.print("Where two rates stand, theory leaves open which between them, as training goes on or a batch has many directions.")
    if any(stop.beyond for stop in stops):
        console.print("* above the smallest width: no function is gained there.", markup=False, highlight=False)
    console.print(
        f"Why, and what is not promised: `rsverify transfer --rank {rank} --alpha {alpha:g} --lr {lr:g} --rule \"{rules[0]}\" "
        f"--optimizer {found.optimizer} --to-rank {stops[-1].rank}`.",
        markup=False, highlight=False,
    )  # fmt: skip
    return stops


def _lr(way: Any) -> str:
    return f"{way.to_lr:.3g}" if way.to_lr_range is None else "{:.3g} to {:.3g}".format(*way.to_lr_range)


def _alpha(way: Any) -> str:
    return "-" if way.alpha_at_same_lr is None else f"{way.alpha_at_same_lr:.4g}"


def as_json(found: Any) -> dict[str, Any]:
    """The budget as plain data."""
    import dataclasses

    plain = dataclasses.asdict(found)
    plain["bills"] = [{"rank": rank, **dataclasses.asdict(bill), "total": bill.total} for rank, bill in found.bills]
    return {"schema": "rsverify/1", **plain}
