"""`budget`: the highest rank whose training step fits into a memory, with the bill, from a model's config alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rsverify.definitions.optimizers import Optimizer, as_optimizer
from rsverify.errors import BudgetError, InputError, suggest

if TYPE_CHECKING:
    import torch

    from rsverify.interop.skeleton import Skeleton
    from rsverify.studies.memory import Bill

DTYPES = ("bf16", "fp16", "fp32")
_UNITS = {"b": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_CEILING = 2**24
"""No model has a width near it: a rank above means that memory does not bind."""


@dataclass(frozen=True)
class MemoryBudget:
    """What fits: the highest rank, its bill, and the bill of a rank above that does not.

    `ranks` are bills by rank, in rising order, all computed on the way; `capped` is the largest rank below which every adapted
    layer still gains functions (the smallest width): above it only the effective learning rate grows.
    """

    model: str
    memory: int
    reserve: int
    optimizer: str
    dtype: str
    adapter_dtype: str
    tokens: int
    sequences: int
    attention: str
    checkpointing: bool
    targets: tuple[str, ...]
    rank: int
    bills: tuple[tuple[int, Bill], ...]
    width: int
    parameters_per_rank: int

    @property
    def bill(self) -> Bill:
        """The bill at the highest rank that fits."""
        return dict(self.bills)[self.rank]


def parse_memory(text: str | int) -> int:
    """Bytes of "24GiB", "80GB", or a number of bytes.

    Raises: InputError for anything else.
    """
    if isinstance(text, int) and not isinstance(text, bool) and text > 0:
        return text
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*", str(text))
    if not found or found[2].lower() not in _UNITS or float(found[1]) == 0:
        raise InputError(f"memory={text!r}; expected a positive size such as 24GiB or 80GB (GiB is 2**30 bytes, GB 10**9)")
    return int(float(found[1]) * _UNITS[found[2].lower()])


def budget(
    model: str,
    memory: str | int,
    *,
    optimizer: Optimizer | str = "adamw",
    dtype: str = "bf16",
    adapter_dtype: str = "fp32",
    tokens: int = 4096,
    sequences: int = 1,
    targets: Sequence[str] | str = "all-linear",
    attention: str = "flash",
    checkpointing: bool = False,
    accumulate: bool = False,
    reserve: str | int = "1GiB",
    progress: Callable[[str, int, int], None] | None = None,
) -> MemoryBudget:
    """The highest LoRA rank at which one training step of a model fits into a memory, and what holds the bytes.

    The step is taken on shapes alone, adapters on, so nothing but a config is needed; what autograd keeps is counted tensor by tensor.

    Args:
        model: folder with a config.json, or hub name, of a causal language model.
        memory: of the device, e.g. "24GiB"; `reserve` of it is left for the driver's context and fragmentation.
        dtype, adapter_dtype: of the base and of the adapters with their gradients and optimizer state.
        tokens, sequences: a step sees `sequences` sequences of `tokens / sequences` tokens.
        targets: endings of the linears that get adapters, or "all-linear" (all but the head).
        attention: "flash" or "eager"; checkpointing: recompute activations; accumulate: gradients stay between steps.
    Raises: BudgetError where not even rank 1 fits (saying what the base alone takes); InputError for what cannot be meant.
    """
    from rsverify.interop.skeleton import skeleton
    from rsverify.interop.transformers import match_targets
    from rsverify.training.model.linears import linear_at

    chosen = as_optimizer(optimizer)
    room, kept = parse_memory(memory), parse_memory(reserve) if reserve not in (0, "0") else 0
    if kept >= room:
        raise InputError(f"reserve={reserve!r} leaves nothing of memory={memory!r}")
    if tokens < 2 or sequences < 1 or tokens % sequences or tokens // sequences < 2:
        raise InputError(f"tokens={tokens}, sequences={sequences}; expected at least 2 tokens in each of a whole number of equal sequences")
    made = skeleton(model, dtype=_dtype(dtype), attention=attention, checkpointing=checkpointing)
    names = match_targets(made.model, [targets] if isinstance(targets, str) and targets != "all-linear" else targets)
    widths = [tuple(linear_at(made.model, name).weight.shape) for name in names]
    bills: dict[int, Bill] = {}

    def bill_at(rank: int) -> Bill:
        if rank not in bills:
            if progress is not None:
                progress(f"one step at rank {rank}", len(bills), 8)
            bills[rank] = _bill(
                made, names, rank, adapter_dtype=_dtype(adapter_dtype), optimizer=chosen.name, length=tokens // sequences,
                sequences=sequences, accumulate=accumulate,
            )  # fmt: skip
        return bills[rank]

    rank = _highest(lambda r: bill_at(r).total, room - kept)
    if rank == 0:
        least = bill_at(1)
        cure = "the base alone does not fit: take a smaller dtype or model" if least.base > room - kept else _cure(checkpointing, attention)
        raise BudgetError(
            f"memory={memory!r} (less {shown(kept)} in reserve) does not hold one step at rank 1: {shown(least.total)} are needed, "
            f"of which base {shown(least.base)}, activations {shown(least.activations)}; {cure}",
            needed=least.total, allowed=room - kept, unit="bytes",
        )  # fmt: skip
    return MemoryBudget(
        made.name, room, kept, chosen.text, dtype, adapter_dtype, tokens, sequences, attention, checkpointing, names, rank,
        tuple(sorted(bills.items())), min(min(w) for w in widths), sum(sum(w) for w in widths),
    )  # fmt: skip


def shown(size: float) -> str:
    """Bytes as a person reads them."""
    return f"{size / 2**30:.2f} GiB" if abs(size) >= 2**30 else f"{size / 2**20:.1f} MiB"


def _highest(total: Callable[[int], int], room: int) -> int:
    """The largest rank whose total is within the room; 0 where rank 1 is not.

    The total rises with rank and is convex (a largest of lines: the peak may move from one moment of the step to another),
    so the line through two ranks below never oversteps by much, and few ranks need be tried.
    """
    if total(1) > room:
        return 0
    low, high = 1, 2
    while total(high) <= room:
        low, high = high, high * 8
        if high > _CEILING:
            return low
    while high - low > 1:
        slope = (total(high) - total(low)) / (high - low)
        guess = low + int((room - total(low)) / slope)
        middle = min(max(guess, low + 1), high - 1)
        low, high = (middle, high) if total(middle) <= room else (low, middle)
        if high - low > 1:  # the line's guess is nearly always right: its neighbour settles the matter
            beside = low + 1
            low, high = (beside, high) if total(beside) <= room else (low, beside)
    return low


def _bill(
    made: Skeleton,
    names: Sequence[str],
    rank: int,
    *,
    adapter_dtype: torch.dtype,
    optimizer: str,
    length: int,
    sequences: int,
    accumulate: bool,
) -> Bill:
    from rsverify.studies.memory import bill_of_step

    with _adapters(made.model, names, rank, adapter_dtype) as factors:
        return bill_of_step(
            made.model, factors, lambda: made.loss(sequences=sequences, length=length), optimizer=optimizer, keep_gradients=accumulate
        )


@contextmanager
def _adapters(model: Any, names: Sequence[str], rank: int, dtype: torch.dtype) -> Iterator[list[torch.nn.Parameter]]:
    """LoRA on the linears named, without data: the input is taken to the adapter's dtype and the result back, as PEFT does."""
    import torch
    import torch.nn.functional as F

    model.requires_grad_(False)
    factors: list[torch.nn.Parameter] = []
    hooks = []

    def put_on(linear: Any) -> None:
        d_out, d_in = linear.weight.shape
        A = torch.nn.Parameter(torch.empty(rank, d_in, dtype=dtype, device="meta"))
        B = torch.nn.Parameter(torch.empty(d_out, rank, dtype=dtype, device="meta"))
        factors.extend((A, B))
        hooks.append(linear.register_forward_hook(lambda _, x, y: (y + F.linear(F.linear(x[0].to(dtype), A), B) * 2.0).to(y.dtype)))

    for name in names:
        put_on(model.get_submodule(name))
    try:
        yield factors
    finally:
        for hook in hooks:
            hook.remove()


def _dtype(name: str) -> torch.dtype:
    import torch

    known = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
    if name not in known:
        raise InputError(f"dtype={name!r} is not known{suggest(name, DTYPES)}")
    return known[name]


def _cure(checkpointing: bool, attention: str) -> str:
    cures = ["fewer tokens a step"]
    if not checkpointing:
        cures.insert(0, "gradient checkpointing")
    if attention == "eager":
        cures.insert(0, "flash attention")
    return f"try {', '.join(cures)}"
