"""Every rank, rule, seed, learning rate and init in one pass: many adapter configurations trained together on one frozen base."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rsverify.errors import InputError, refuse_no_workers
from rsverify.training import compact
from rsverify.training.adapters.attach import find_targets, linear_at
from rsverify.training.autograd.block_linear import Switch, patched
from rsverify.training.autograd.folding import Folding, prepare, prepare_by_hand, prepare_native
from rsverify.training.model.task import Batch, Task
from rsverify.training.model.transformer import Transformer
from rsverify.training.native import build, serve
from rsverify.training.native.cost import step_time
from rsverify.training.native.decoder import Decoder
from rsverify.training.stack.checkpoint import describe, load, restore, save
from rsverify.training.stack.configuration import Configuration
from rsverify.training.stack.cost import run_cost
from rsverify.training.stack.layout import order, silent_on
from rsverify.training.stack.out_of_memory import factor_bytes, out_of_memory, refuse_too_much
from rsverify.training.stack.room import activation_room
from rsverify.training.stack.stack import Stack
from rsverify.training.stack.stepping import silent_on_step
from rsverify.training.stack.threads import run_in_threads, thread_count
from rsverify.training.stack.workers import run_in_workers, shared_zeros, shares, worker_count

SAVE_SECONDS = 30.0
"""Between two checkpoints: what a kill can cost."""


@dataclass(frozen=True)
class StackedRun:
    """What many configurations did, in the order in which they were given.

    `diverged` holds the step whose loss or gradient was no longer finite, None where all were; from there on the records are NaN. `steps`
    counts the steps taken by each; where `complete` is False the run was interrupted and can be resumed from its checkpoint.

    Shapes: loss, gradient_norm, output_rms (configurations, steps), each read before the step is taken: the loss, the norm over all
    trained factors, and the rms of what the adapters add over tokens, entries and layers. factor_gradients by factor name likewise.
    """

    configurations: tuple[Configuration, ...]
    loss: np.ndarray
    gradient_norm: np.ndarray
    output_rms: np.ndarray
    factor_gradients: Mapping[str, np.ndarray]
    diverged: tuple[int | None, ...]
    steps: tuple[int, ...]
    complete: bool = True
    notes: tuple[str, ...] = ()
    _stacks: tuple[Stack, ...] = field(default=(), repr=False)
    _where: tuple[tuple[int, int], ...] = field(default=(), repr=False)

    def factors(self, i: int) -> dict[str, dict[str, Tensor]]:
        """The factors of configuration `i` as they now are: by the name of the linear, then of the factor."""
        stack, row = self._find(i)
        found: dict[str, dict[str, Tensor]] = {}
        for group in stack.groups:
            if group.lo <= row < group.lo + group.size:
                for (layer, factor), place in group.places.items():
                    found.setdefault(layer, {})[factor] = place.of(group.w)[row - group.lo]
        return found

    def delta(self, i: int, layer: str) -> Tensor:
        """The weight that configuration `i` adds to a linear, gamma included. Shapes: (d_out, d_in)."""
        stack, row = self._find(i)
        group = next(group for group in stack.groups if group.lo <= row < group.lo + group.size)
        factors = self.factors(i)
        if layer not in factors:
            raise InputError(f"layer={layer!r} is not adapted in configuration {i}; its linears are {', '.join(factors)}")
        return self.configurations[i].gamma * factors[layer][group.up] @ factors[layer][group.down]

    def evaluate(self, batch: Batch) -> np.ndarray:
        """The loss of every configuration on a batch of the task's kind, with its factors as they now are. Shapes: (configurations,)."""
        found = np.full(len(self.configurations), np.nan)
        if not self._stacks:
            return found
        task = self._stacks[0].task
        with patched(task.model, task.targets) as switch:
            parts = [stack.evaluate(switch, batch).double().cpu().numpy() for stack in self._stacks]
        for i, (s, row) in enumerate(self._where):
            found[i] = parts[s][row]
        return found

    def to_json(self) -> dict[str, Any]:
        """Plain data: configurations with their curves; numbers that are not finite as null."""

        def plain(values: np.ndarray) -> list[float | None]:
            return [float(v) if math.isfinite(v) else None for v in values]

        return {
            "complete": self.complete,
            "notes": list(self.notes),
            "configurations": [
                {
                    **c.to_dict(), "steps": self.steps[i], "diverged": self.diverged[i], "loss": plain(self.loss[i]),
                    "gradient_norm": plain(self.gradient_norm[i]), "output_rms": plain(self.output_rms[i]),
                    "factor_gradients": {name: plain(values[i]) for name, values in self.factor_gradients.items()},
                }
                for i, c in enumerate(self.configurations)
            ],
        }  # fmt: skip

    def _find(self, i: int) -> tuple[Stack, int]:
        if not self._stacks:
            raise InputError("this run was read from records and holds no factors")
        s, row = self._where[i]
        return self._stacks[s], row


def train_stacked(
    task: Task,
    configurations: Sequence[Configuration],
    *,
    steps: int = 10,
    probe: bool = True,
    memory: int | None = None,
    workers: int | None = None,
    dtype: torch.dtype | None = None,
    share_first: bool = True,
    checkpoint: Path | None = None,
    report: Callable[[StackedRun], None] | None = None,
    report_every: float = 0.5,
) -> StackedRun:
    """Train every configuration for some steps on one frozen model, all of them together; the model is as before afterwards.

    Each configuration's numbers are those of training it alone, to rounding. For example, six ranks under two rules, three draws:

        task = fine_tuning_task(tokens=64, sequences=1, dtype=torch.float32)
        run = train_stacked(task, grid("4:128", ["alpha/r", "alpha/sqrt(r)"], seeds=range(3)), steps=10)
        run.loss[i], run.gradient_norm[i], run.output_rms[i]    # curves of configuration i
        run.factors(i)["blocks.0.attention.q"]["B"], run.delta(i, "blocks.0.attention.q"), run.evaluate(held_out_batch)

    The compact transformer is trained by kernels in C, compiled once by the machine's own compiler; where there is none, or the
    environment says RSVERIFY_NATIVE=off, by torch's products.

    Args:
        task: model, batches and losses (see `fine_tuning_task`, `module_task`, `interop.transformers.task_from_pretrained`).
        configurations: see `Configuration` and `grid`; ranks, rules, optimizers, inits, seeds and targets may all differ.
        probe: also read the rms of what the adapters add.
        memory: bound in bytes on the saved activations of all workers; None = 64 MiB or what one configuration on each core needs, on a
            GPU a quarter of what is free.
        workers: how many train a share of the configurations on one core each: threads for those models, processes forked for any
            other on a CPU; None = as many as torch has threads, where each has memory for a configuration.
        dtype: of factors, gradients and optimizer states; by default the base's own, and float32 over a bfloat16 base.
        share_first: let one pass of the bare model serve the first step of all where the added weight starts at zero.
        checkpoint: file that keeps the run: written every half minute, when interrupted and at the end; where it exists, the run
            goes on from it. A run may be asked for more steps than before.
        report: called with the run as far as it is, at most once in `report_every` seconds.
    Raises: InputError before any work for what cannot be trained or a checkpoint of another run, with the reason; BudgetError where
        memory does not suffice.
    """
    refuse_no_workers(workers)
    chosen = _checked(task, configurations, steps)
    ranked = order(chosen)
    weight = linear_at(task.model, task.targets[0]).weight
    dtype = dtype or (torch.float32 if weight.dtype in (torch.bfloat16, torch.float16) else weight.dtype)
    widths = [(at.out_features, at.in_features) for at in (linear_at(task.model, name) for name in task.targets)]
    refuse_too_much(task, chosen, dtype=dtype)
    decoder = serve.decoder_for(task, dtype=dtype)
    with patched(task.model, task.targets) as switch, interruptible() as stopped:
        threads = decoder is not None or compact.applies(task, dtype=dtype)
        with one_thread(weight.device):
            if decoder is not None:
                folding = prepare_native(task, decoder, rank=max(c.rank for c in chosen), note=build.remark(dtype))
            else:
                folding = prepare_by_hand(task, note=build.remark(dtype)) if threads else prepare(task, switch)
        each = {"configurations": len(chosen), "bytes_each": folding.bytes_each}
        if memory is None:
            kept = factor_bytes(task, chosen, dtype=dtype)
            memory = activation_room(device=weight.device, kept=kept, **each)
        if workers is None:
            workers = thread_count(memory=memory, **each) if threads else worker_count(device=weight.device, memory=memory, **each)
        cost = partial(_cost, task, folding, widths, decoder=decoder, by_hand=threads, alone=folding.copies(memory // workers) == 1)
        cost_of = {rank: cost(rank) for rank in {c.rank for c in chosen}}
        about = describe(task, chosen, dtype=dtype, probe=probe)
        found = load(checkpoint, about, steps=steps) if checkpoint else None
        done = found.done if found else (0,) * len(chosen)
        stacks: list[Stack] = []
        where: dict[int, tuple[int, int]] = {}
        forked = workers > 1 and not threads
        for cohort in sorted(set(done)):  # a stack steps all of its configurations together
            members = [i for i in ranked if done[i] == cohort]
            costs = [cost_of[chosen[i].rank] for i in members]
            for share in shares(costs, workers):
                mine = [members[k] for k in share]
                with one_thread(weight.device):  # threads that have filled large buffers spin on while the workers want their cores
                    stack = Stack(
                        task, [chosen[i] for i in mine], steps=steps, dtype=dtype, copies=folding.copies(memory // workers), probe=probe,
                        share_first=share_first, allocate=shared_zeros if forked else torch.zeros, decoder=decoder,
                    )  # fmt: skip
                if found and cohort:
                    restore(found, stack, mine)
                where |= {i: (len(stacks), row) for row, i in enumerate(mine)}
                stacks.append(stack)
        places = [where[i] for i in range(len(chosen))]
        keep = partial(save, checkpoint, about, stacks, places) if checkpoint else None
        told = Occasionally(report_every, lambda: report(collect(chosen, stacks, places, notes=folding.notes))) if report else None
        try:
            if workers > 1:
                run = run_in_workers if forked else run_in_threads
                run(stacks, switch, stopped=stopped, report=told, pause=keep, pause_every=SAVE_SECONDS)
            else:
                saved = Occasionally(SAVE_SECONDS, keep) if keep else None
                for stack in stacks:
                    _run_here(stack, switch, stopped=stopped, after=[call for call in (told, saved) if call])
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            raise out_of_memory(error, memory=memory, copies=folding.copies(memory // workers), bytes_each=folding.bytes_each) from None
        if keep:
            keep()
    return collect(chosen, stacks, places, notes=folding.notes)


def _cost(
    task: Task, folding: Folding, widths: Sequence[tuple[int, int]], rank: int, *, decoder: Decoder | None, by_hand: bool, alone: bool
) -> float:  # fmt: skip
    sizes = {"rows": folding.tokens, "length": folding.tokens // task.examples}
    if decoder is not None:
        return step_time(widths, rows=folding.tokens, rank=rank, lanes=decoder.lanes) + decoder.other_cost(**sizes)
    linears = run_cost(rank=rank, tokens=folding.tokens, widths=widths, direct=by_hand, alone=alone)
    if by_hand:
        assert isinstance(task.model, Transformer)
        return linears + compact.other_cost(task.model, **sizes)
    return linears


def _run_here(stack: Stack, switch: Switch, *, stopped: Callable[[], bool], after: Sequence[Callable[[], None]]) -> None:
    if not int(stack.done[0]):
        stack.draw()
    while int(stack.done[0]) < stack.steps and not stopped():
        stack.advance(switch)
        for call in after:
            call()


class Occasionally:
    """A call that is made at most once in so many seconds, the first time after as many."""

    def __init__(self, seconds: float, call: Callable[[], None]) -> None:
        self.seconds, self.call, self.last = seconds, call, time.monotonic()

    def __call__(self) -> None:
        if time.monotonic() - self.last >= self.seconds:
            self.call()
            self.last = time.monotonic()


def _checked(task: Task, configurations: Sequence[Configuration], steps: int) -> list[Configuration]:
    """The configurations with their targets found among the task's; refuses what cannot be trained."""
    if steps < 1:
        raise InputError(f"steps={steps}; expected at least 1")
    if not configurations:
        raise InputError('configurations=[]; expected at least one Configuration, e.g. from grid("4:64", ["alpha/r"])')
    if not task.targets:
        raise InputError("targets=(): the task names no linear to adapt")
    found = []
    for c in configurations:
        reason = silent_on_step(c.optimizer) or silent_on(c)
        if reason:
            raise InputError(f"configuration {c.text}: {reason}")
        if c.targets is not None:
            mine = find_targets(task.model, c.targets)
            missing = [name for name in mine if name not in task.targets]
            if missing:
                raise InputError(
                    f"configuration {c.text}: targets={missing[0]!r} is not among the task's targets ({len(task.targets)} linears, e.g."
                    f" {task.targets[0]}): the task was made for fewer linears than this configuration asks for; make the task with it"
                    " among its targets, or leave it out of the configuration's"
                )
            c = c.on(mine if mine != task.targets else None)
        found.append(c)
    return found


def collect(
    configurations: Sequence[Configuration], stacks: Sequence[Stack], where: Sequence[tuple[int, int]], *, notes: Sequence[str] = ()
) -> StackedRun:
    """The records of stacks, copied from their device once, in the order in which the configurations were given."""
    steps = stacks[0].steps
    done = [int(stack.done[0]) for stack in stacks]
    raw = [{name: value.double().cpu().numpy() for name, value in vars(stack.logs).items()} for stack in stacks]
    shape = (len(configurations), steps)
    loss, norm, output = (np.full(shape, np.nan) for _ in range(3))
    factors: dict[str, np.ndarray] = {}
    for i, (s, row) in enumerate(where):
        stack, logs, n = stacks[s], raw[s], done[s]
        group = next(g for g in stack.groups if g.lo <= row < g.lo + g.size)
        loss[i, :n] = logs["loss"][:n, row]
        parts = {group.down: logs["down_square"][:n, row], group.up: logs["up_square"][:n, row]}
        norm[i, :n] = np.sqrt(sum(parts[name] for name in group.trained))
        for name in group.trained:
            factors.setdefault(name, np.full(shape, np.nan))[i, :n] = np.sqrt(parts[name])
        if stack.probe:
            entries = max(float(stack.entries[row]), 1.0)  # no count before the second step, whose outputs are zero
            output[i, :n] = np.sqrt(logs["output_square"][:n, row] / entries)
    diverged: list[int | None] = []
    for i, (s, _) in enumerate(where):
        bad = np.flatnonzero(~(np.isfinite(loss[i, : done[s]]) & np.isfinite(norm[i, : done[s]])))
        diverged.append(int(bad[0]) if len(bad) else None)
        if len(bad):
            loss[i, bad[0] + 1 :] = np.nan
            for values in (norm, output, *factors.values()):
                values[i, bad[0] :] = np.nan
    loss[~np.isfinite(loss)] = np.nan
    return StackedRun(
        tuple(configurations), loss, norm, output, factors, tuple(diverged), tuple(done[s] for s, _ in where),
        all(n == steps for n in done), tuple(notes), tuple(stacks), tuple(where),
    )  # fmt: skip


@contextmanager
def one_thread(device: torch.device) -> Iterator[None]:
    """Small passes on one thread: idle threads that wait for the next product cost more than they give, and no fork follows threads."""
    before = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Ctrl-C asks to stop after the step at hand, so that no optimizer step is cut in two; a second one stops at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop.is_set
        return

    def ask(number: int, frame: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield stop.is_set
    finally:
        signal.signal(signal.SIGINT, before)
