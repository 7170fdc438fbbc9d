"""Memory that does not suffice: refused before work where it can be known, and told with what to lower where it cannot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence

import torch

from rsverify.errors import BudgetError
from rsverify.training.adapters.trainable import entries
from rsverify.training.model.linears import linear_at
from rsverify.training.model.task import Task
from rsverify.training.stack.configuration import Configuration
from rsverify.training.stack.room import available_bytes
from rsverify.training.stack.stepping import state_names


def factor_bytes(task: Task, configurations: Sequence[Configuration], *, dtype: torch.dtype) -> int:
    """Bytes of all factors, their gradients and running moments, and of what lies beside them."""
    total = 0
    counts: dict[Hashable, tuple[int, int]] = {}
    for c in configurations:
        names = c.targets or task.targets
        key = (c.adapter, c.rank, c.alpha, names)
        if key not in counts:
            shapes = Counter(tuple(linear_at(task.model, name).weight.shape) for name in names)
            some = {tuple(linear_at(task.model, name).weight.shape): name for name in names}
            each = {
                shape: entries(c.adapter, linear_at(task.model, name), layer=name, rank=c.rank, alpha=c.alpha)
                for shape, name in some.items()
            }
            counts[key] = tuple(sum(count * each[shape][k] for shape, count in shapes.items()) for k in range(2))  # type: ignore[assignment]
        held, beside = counts[key]
        moments = 0 if c.optimizer.name == "adafactor" else len(state_names(c.optimizer))
        total += dtype.itemsize * (held * (2 + moments) + beside)
    return total


def refuse_too_much(task: Task, configurations: Sequence[Configuration], *, dtype: torch.dtype, available: float | None = None) -> None:
    """Refuse configurations whose factors, gradients and moments alone exceed the memory that is there.

    Raises: BudgetError that says how many configurations, or which rank, would fit.
    """
    if available is None:
        available = available_bytes(linear_at(task.model, task.targets[0]).weight.device)
    needed = factor_bytes(task, configurations, dtype=dtype)
    if needed <= available:
        return
    share = available / needed
    dearest = max(configurations, key=lambda c: c.rank)
    raise BudgetError(
        f"{len(configurations)} configurations need {_shown(needed)} for factors, gradients and optimizer states,"
        f" {_shown(available)} are there:"
        f" ask for at most {int(len(configurations) * share)} of them at once, or lower the largest rank from {dearest.rank} to about"
        f" {max(1, int(dearest.rank * share))}",
        needed=needed, allowed=available, unit="bytes",
    )  # fmt: skip


def out_of_memory(error: BaseException, *, memory: int, copies: int, bytes_each: int) -> BaseException:
    """What to lower, and to what, where an allocation failed in a step; any other error as it is."""
    if not isinstance(error, torch.OutOfMemoryError | MemoryError) and "can't allocate memory" not in str(error):
        return error
    if copies > 1:
        cure = f"lower memory from {_shown(memory)} to {_shown(max(bytes_each, memory // 2))} (now {copies} configurations at once)"
    else:
        cure = f"one configuration alone saves {_shown(bytes_each)} of activations: halve the tokens or sequences of a batch"
    return BudgetError(f"out of memory in a step: {cure}", needed=float(copies * bytes_each), allowed=float(memory), unit="bytes")


def _shown(size: float) -> str:
    for unit, scale in (("GiB", 1 << 30), ("MiB", 1 << 20)):
        if size >= scale:
            return f"{size / scale:.3g} {unit}"
    return f"{size:.0f} bytes"
