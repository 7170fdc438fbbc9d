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
from rsverify.training.adapters.forms import added_weight
from rsverify.training.adapters.route import run_cost
from rsverify.training.autograd.backend import Autograd
from rsverify.training.autograd.block_linear import Switch, patched
from rsverify.training.autograd.folding import prepare
from rsverify.training.model.decoder import Decoder
from rsverify.training.model.folding import Folding
from rsverify.training.model.linears import find_targets, linear_at
from rsverify.training.model.task import Batch, Task
from rsverify.training.native import build, serve
from rsverify.training.native.backend import Native
from rsverify.training.native.backend import prepare as prepare_native
from rsverify.training.native.cost import step_time
from rsverify.training.native.decoder import other_cost
from rsverify.training.stack.backend import Backend
from rsverify.training.stack.checkpoint import describe, load, restore, save
from rsverify.training.stack.configuration import Configuration
from rsverify.training.stack.layout import Group, is_pair, order
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
        group, row = self._group(i)
        factors: dict[str, dict[str, Tensor]] = {}
        for (layer, name), place in group.factors.places.items():
            factors.setdefault(layer, {})[name] = place.of(group.factors.w)[row]
        return factors

    def delta(self, i: int, layer: str) -> Tensor:
        """The weight that configuration `i` adds to a linear, gamma included; of a module, that of what it does. Shapes: (d_out, d_in)."""
        group, row = self._group(i)
        factors = self.factors(i)
        if layer not in factors:
            raise InputError(f"layer={layer!r} is not adapted in configuration {i}; its linears are {', '.join(factors)}")
        if group.factors.pair is not None:
            return self.configurations[i].gamma * factors[layer][group.factors.up] @ factors[layer][group.factors.down]
        linear = linear_at(self._stacks[0].task.model, layer)
        return added_weight(group.factors, layer, row, linear)

    def evaluate(self, batch: Batch) -> np.ndarray:
        """The loss of every configuration on a batch of the task's kind, with its factors as they now are. Shapes: (configurations,)."""
        found = np.full(len(self.configurations), np.nan)
        if not self._stacks:
            return found
        task = self._stacks[0].task
        with patched(task.model, task.targets) as switch:
            autograd = Autograd(task, switch)
            parts = [stack.evaluate(autograd, batch).double().cpu().numpy() for stack in self._stacks]
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

    def _group(self, i: int) -> tuple[Group, int]:
        if not self._stacks:
            raise InputError("this run was read from records and holds no factors")
        s, row = self._where[i]
        group = next(group for group in self._stacks[s].groups if group.lo <= row < group.lo + group.size)
        return group, row - group.lo


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
    weight = linear_at(task.model, task.targets[0]).weight
    dtype = dtype or (torch.float32 if weight.dtype in (torch.bfloat16, torch.float16) else weight.dtype)
    refuse_too_much(task, chosen, dtype=dtype)
    about = describe(task, chosen, dtype=dtype, probe=probe)
    saved = load(checkpoint, about, steps=steps) if checkpoint else None
    done = saved.done if saved else (0,) * len(chosen)
    with patched(task.model, task.targets) as switch, interruptible() as stopped:
        ways = _ways(task, chosen, switch, dtype=dtype, memory=memory, workers=workers)
        stacks: list[Stack] = []
        where: dict[int, tuple[int, int]] = {}
        for way in ways:
            for cohort in sorted({done[i] for i in way.members}):  # a stack steps all of its configurations together
                members = [i for i in way.members if done[i] == cohort]
                for share in shares([way.costs[i] for i in members], way.workers):
                    mine = [members[k] for k in share]
                    with one_thread(weight.device):  # threads that have filled large buffers spin on while the workers want their cores
                        stack = Stack(
                            task, [chosen[i] for i in mine], backend=way.backend(), steps=steps, dtype=dtype, copies=way.copies,
                            probe=probe, share_first=share_first, allocate=shared_zeros if way.forked else torch.zeros,
                        )  # fmt: skip
                    if saved and cohort:
                        restore(saved, stack, mine)
                    where |= {i: (len(stacks), row) for row, i in enumerate(mine)}
                    stacks.append(stack)
                    way.stacks.append(stack)
        places = [where[i] for i in range(len(chosen))]
        keep = partial(save, checkpoint, about, stacks, places) if checkpoint else None

        def notes() -> tuple[str, ...]:
            return tuple(dict.fromkeys(note for way in ways for note in way.notes))

        shown = Occasionally(report_every, lambda: report(collect(chosen, stacks, places, notes=notes()))) if report else None
        for way in ways:
            try:
                way.run(stopped=stopped, report=shown, keep=keep)
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                raise out_of_memory(error, memory=way.memory, copies=way.copies, bytes_each=way.folding.bytes_each) from None
        if keep:
            keep()
    return collect(chosen, stacks, places, notes=notes())


@dataclass
class Way:
    """Configurations that one backend trains: how many at once, on how many workers, and the stacks that they lie in.

    `costs` balance the work, by configuration.
    """

    members: list[int]
    backend: Callable[[], Backend]
    folding: Folding
    memory: int
    workers: int
    forked: bool
    costs: dict[int, float]
    stacks: list[Stack] = field(default_factory=list)

    @property
    def copies(self) -> int:
        return self.folding.copies(self.memory // self.workers)

    @property
    def notes(self) -> tuple[str, ...]:
        return (*self.folding.notes, *(note for stack in self.stacks for group in stack.groups for note in group.notes))

    def run(self, *, stopped: Callable[[], bool], report: Callable[[], None] | None, keep: Callable[[], None] | None) -> None:
        """Bring every stack to its last step, or stop between two."""
        if self.workers > 1:
            run = run_in_workers if self.forked else run_in_threads
            run(self.stacks, stopped=stopped, report=report, pause=keep, pause_every=SAVE_SECONDS)
            return
        saved = Occasionally(SAVE_SECONDS, keep) if keep else None
        for stack in self.stacks:
            _run_here(stack, stopped=stopped, after=[call for call in (report, saved) if call])


def _ways(
    task: Task, chosen: Sequence[Configuration], switch: Switch, *, dtype: torch.dtype, memory: int | None, workers: int | None
) -> list[Way]:  # fmt: skip
    """Which backend trains which configurations: the kernels pairs on a model that they know, autograd all others."""
    ranked = order(chosen)
    pairs, others = ([i for i in ranked if is_pair(chosen[i]) is pair] for pair in (True, False))
    decoder = serve.decoder_for(task, dtype=dtype) if pairs else None
    made = []
    for members, known in ((pairs, decoder), (others, None)):
        if members:
            some = [chosen[i] for i in members]
            made.append(_way(task, members, some, switch, decoder=known, dtype=dtype, memory=memory, workers=workers))
    return made


def _way(
    task: Task, members: list[int], some: Sequence[Configuration], switch: Switch, *, decoder: Decoder | None, dtype: torch.dtype,
    memory: int | None, workers: int | None,
) -> Way:  # fmt: skip
    device = linear_at(task.model, task.targets[0]).weight.device
    widths = [(linear.out_features, linear.in_features) for linear in (linear_at(task.model, name) for name in task.targets)]
    kernels = None if decoder is None else build.kernels(dtype)
    with one_thread(device):
        if decoder is not None:
            folding = prepare_native(task, decoder, rank=max(c.rank for c in some), note=build.remark(dtype))
        else:
            folding = prepare(task, switch)
            if not is_pair(some[0]):
                folding = folding.with_weights(widths, itemsize=dtype.itemsize)
            elif task.decoder is not None and task.decoder(task, dtype) is not None and (note := build.remark(dtype)):
                folding = folding.noted(note)
    each = {"configurations": len(some), "bytes_each": folding.bytes_each}
    if memory is None:
        memory = activation_room(device=device, kept=factor_bytes(task, some, dtype=dtype), **each)
    if workers is None:
        workers = thread_count(memory=memory, **each) if decoder is not None else worker_count(device=device, memory=memory, **each)
    costs = {rank: run_cost(rank=rank, tokens=folding.tokens, widths=widths) for rank in {c.rank for c in some}}
    if decoder is not None:
        rows, lanes = folding.tokens, decoder.lanes
        beside = other_cost(decoder, rows=rows, length=rows // task.examples)
        costs = {rank: beside + step_time(widths, rows=rows, rank=rank, lanes=lanes) for rank in costs}

    def backend() -> Backend:
        return Autograd(task, switch) if decoder is None or kernels is None else Native(task, decoder, kernels)

    return Way(
        members, backend, folding, memory, workers, workers > 1 and decoder is None,
        {i: costs[c.rank] for i, c in zip(members, some, strict=True)},
    )  # fmt: skip


def _run_here(stack: Stack, *, stopped: Callable[[], bool], after: Sequence[Callable[[], None]]) -> None:
    if not int(stack.done[0]):
        stack.draw()
    while int(stack.done[0]) < stack.steps and not stopped():
        stack.advance()
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
        if reason := silent_on_step(c.optimizer):
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
    raw = [{name: value.double().cpu().numpy() for name, value in stack.logs.named().items()} for stack in stacks]
    shape = (len(configurations), steps)
    loss, norm, output = (np.full(shape, np.nan) for _ in range(3))
    factors: dict[str, np.ndarray] = {}
    for i, (s, row) in enumerate(where):
        stack, logs, n = stacks[s], raw[s], done[s]
        made_of = next(g for g in stack.groups if g.lo <= row < g.lo + g.size).factors
        loss[i, :n] = logs["loss"][:n, row]
        squares = {name: logs[f"gradient_square.{k}"][:n, row] for k, name in enumerate(made_of.names)}
        norm[i, :n] = np.sqrt(sum(squares[name] for name in made_of.trained))
        for name in made_of.trained:
            factors.setdefault(name, np.full(shape, np.nan))[i, :n] = np.sqrt(squares[name])
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
