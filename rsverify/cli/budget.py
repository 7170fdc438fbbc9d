"""`rsverify budget`: the highest rank that fits into a memory, and the bill."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

from rsverify.cli.options import Json, OneOptimizer, Seed, refuse_unwritable, write_json


def budget(
    model: str,
    *,
    memory: Annotated[str, Parameter(help="Memory of the device, e.g. 24GiB or 80GB.")],
    optimizer: OneOptimizer = "adamw",
    dtype: Annotated[str, Parameter(help="Of the base: bf16, fp16 or fp32.")] = "bf16",
    adapter_dtype: Annotated[str, Parameter(help="Of adapters, their gradients and optimizer state.")] = "fp32",
    tokens: Annotated[int, Parameter(help="Tokens of a step, all sequences together.")] = 4096,
    sequences: Annotated[int, Parameter(help="Sequences of a step, of equal length.")] = 1,
    targets: Annotated[str, Parameter(help="Endings of the linears that get adapters, with commas; or all-linear.")] = "all-linear",
    attention: Annotated[str, Parameter(help="flash (fused kernels, no scores stored) or eager.")] = "flash",
    checkpointing: Annotated[bool, Parameter(negative="", help="Recompute activations in the backward pass.")] = False,
    accumulate: Annotated[bool, Parameter(negative="", help="Gradients stay allocated between steps.")] = False,
    reserve: Annotated[str, Parameter(help="Left free for the driver's context and fragmentation.")] = "1GiB",
    seed: Seed = 0,
    json: Json = None,
) -> int:
    """Say the highest LoRA rank whose training step fits into a memory, with the bill, from a model's config alone.

    Exit code 0 = some rank fits, 2 = not even rank 1 does, or bad input. The seed is taken for uniformity; nothing is drawn.

    Example: `rsverify budget ./my-model --memory 24GiB --optimizer adamw --dtype bf16 --tokens 4096 --checkpointing`
    """
    from rich.console import Console
    from rich.table import Table

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
    for heading in ("rank", "base", "adapters", "gradients at the peak", "optimizer", "activations", "total", "fits"):
        table.add_column(heading, justify="right")
    for rank, bill in found.bills:
        parts = (bill.base, bill.adapters, bill.gradients, bill.optimizer, bill.activations, bill.total)
        fits = "yes" if bill.total <= found.memory - found.reserve else "no"
        table.add_row(str(rank), *(shown(part) for part in parts), fits, style="bold" if rank == found.rank else "")
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
    console.print(
        "Not counted: kernels' own workspaces and what the reserve is for. alpha and lr on the way to this rank: `rsverify transfer "
        f"--to-rank {min(found.rank, found.width)} ...`.",
        highlight=False,
    )
    write_json(as_json(found), json)
    return 0


def as_json(found: Any) -> dict[str, Any]:
    """The budget as plain data."""
    import dataclasses

    plain = dataclasses.asdict(found)
    plain["bills"] = [{"rank": rank, **dataclasses.asdict(bill), "total": bill.total} for rank, bill in found.bills]
    return {"schema": "rsverify/1", **plain}
