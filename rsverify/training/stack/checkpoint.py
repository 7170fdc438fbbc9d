"""What a stacked run has done, in one file: an interrupted run goes on from there, and never with another configuration's numbers."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from rsverify.errors import InputError
from rsverify.training.model.task import Task
from rsverify.training.stack.configuration import Configuration
from rsverify.training.stack.stack import Stack

SCHEMA = "rsverify-train/1"


@dataclass(frozen=True)
class Checkpoint:
    """Factors, optimizer states and logs by configuration, and the steps that each has done."""

    tensors: Mapping[str, Tensor]
    done: tuple[int, ...]
    steps: int


def describe(task: Task, configurations: Sequence[Configuration], *, dtype: torch.dtype, probe: bool) -> dict[str, Any]:
    """What a checkpoint must agree on with the run that it resumes; the number of steps may grow."""
    return {
        "schema": SCHEMA, "task": task.name, "targets": list(task.targets), "hashes": dict(task.hashes), "dtype": str(dtype),
        "probe": probe,
        "configurations": [c.to_dict() for c in configurations],
    }  # fmt: skip


def save(path: Path, about: Mapping[str, Any], stacks: Sequence[Stack], where: Sequence[tuple[int, int]]) -> None:
    """Write the state between two steps; the file of before stays until the new one is whole.

    Raises: InputError where it cannot be written, e.g. a full disk.
    """
    tensors: dict[str, Tensor] = {}
    for i, (s, row) in enumerate(where):
        tensors |= {f"{i}.{name}": value.detach().cpu().contiguous().clone() for name, value in stacks[s].row(row).items()}
    done = [int(stacks[s].done[0]) for s, _ in where]
    metadata = {"about": json.dumps(about), "done": json.dumps(done), "steps": str(stacks[0].steps)}
    part = path.with_suffix(".part")
    try:
        save_file(tensors, part, metadata=metadata)
        os.replace(part, path)
    except (OSError, SafetensorError) as error:
        part.unlink(missing_ok=True)
        raise InputError(f"checkpoint {path.name!r} cannot be written ({error}); the one before it is kept; free some disk") from None


def load(path: Path, about: Mapping[str, Any], *, steps: int) -> Checkpoint | None:
    """The checkpoint of an earlier run of the same description; None where there is none.

    Raises: InputError for a file that is damaged or of another run, naming the first difference.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            before, done = json.loads(metadata["about"]), json.loads(metadata["done"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise InputError(f"checkpoint {path.name!r} cannot be read ({type(error).__name__}: {error}); move it away to start anew") from None
    if found := difference(before, json.loads(json.dumps(about))):
        raise InputError(f"checkpoint {path.name!r} is of another run: {found}; give another --out, or the settings of that run")
    if max(done) > steps:
        raise InputError(f"checkpoint {path.name!r} holds {max(done)} steps, more than steps={steps}; ask for at least as many")
    return Checkpoint(tensors, tuple(done), int(metadata["steps"]))


def restore(checkpoint: Checkpoint, stack: Stack, members: Sequence[int]) -> None:
    """Bring a fresh stack to where its configurations were; `members` are their places in the checkpoint, in the stack's order."""
    if any(group.factors.pair is None for group in stack.groups):
        stack.draw()  # what lies beside the factors of other kinds is no part of a checkpoint
    for row, i in enumerate(members):
        for name, value in stack.row(row).items():
            saved = checkpoint.tensors[f"{i}.{name}"].to(value.device)
            if name.startswith("log."):
                value[: checkpoint.done[i]] = saved[: checkpoint.done[i]]
            else:
                value.copy_(saved)
    stack.done[0] = checkpoint.done[members[0]]
    for group in stack.groups:
        group.factors.refresh()


def difference(before: Any, now: Any, place: str = "") -> str | None:
    """The first place where two plain values differ, in words; None where they are equal."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in [*before, *(key for key in now if key not in before)]:
            found = difference(before.get(key), now.get(key), f"{place}.{key}" if place else str(key))
            if found:
                return found
        return None
    if isinstance(before, list) and isinstance(now, list):
        if len(before) != len(now):
            return f"{place}: {len(before)} then, {len(now)} now"
        return next((found for i, (a, b) in enumerate(zip(before, now, strict=True)) if (found := difference(a, b, f"{place}[{i}]"))), None)
    return None if before == now else f"{place}={before!r} then, {now!r} now"
