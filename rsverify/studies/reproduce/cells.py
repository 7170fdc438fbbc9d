"""What one cell of the study computes: plain data in, plain data out, the same numbers wherever it runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rsverify.definitions.laws import KaimingUniform, rescaled
from rsverify.definitions.optimizers import as_optimizer
from rsverify.definitions.registry import as_adapter
from rsverify.definitions.rules import as_rule
from rsverify.statistics.streams import stream
from rsverify.symbolic.answers.limit import limit_of_rank
from rsverify.training.adapters.attach import attach, build_adapters, merge, unmerge
from rsverify.training.adapters.rank_free import Trajectory, build_rank_free, train_full, train_rank_free
from rsverify.training.model.data import draw_batch, fine_tuning_task, fine_tuning_text
from rsverify.training.model.linears import linear_at
from rsverify.training.model.task import Task
from rsverify.training.stack.configuration import Configuration
from rsverify.training.stack.train import StackedRun, one_thread, train_stacked

DIGITS = 6
HELD_OUT_SEED = 7
"""Of the stream that places the held-out windows: the same for every run, so that differences are paired on them too."""


@cache
def _task(tokens: int, dtype: torch.dtype) -> Task:
    return fine_tuning_task(tokens=tokens, sequences=1, dtype=dtype)


@cache
def _held_out(tokens: int, count: int) -> tuple[Tensor, ...]:
    text = fine_tuning_text().held_out
    return tuple(draw_batch(text, seed=HELD_OUT_SEED, tokens=tokens, sequences=1, step=k) for k in range(count))


def train(configuration: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Curves of every rank under one rule, optimizer, init, learning rate and set of linears, from one seed of data and factors."""
    c = configuration
    task = _task(c["tokens"], torch.float32)
    adapter = as_adapter("lora")
    if c["init"] != "1":
        adapter = adapter.with_init(A=rescaled(KaimingUniform("i"), c["init"]))
    wanted = [
        Configuration(
            rank, c["rule"], alpha=c["alpha"], lr=c["lr"], optimizer=c["optimizer"], adapter=adapter, seed=seed, data=seed,
            targets=None if c["targets"] == "all" else c["targets"].split(","),
        )
        for rank in c["ranks"]
    ]  # fmt: skip
    with one_thread(torch.device("cpu")):
        run = train_stacked(task, wanted, steps=c["steps"], workers=1)
        if not run.complete:
            raise KeyboardInterrupt
        held_out = run.evaluate({"tokens": torch.cat(_held_out(c["tokens"], c["held_out"]))})
        spectra = [_spectra(run, i) if c["spectra"] else {} for i in range(len(wanted))]
    return {
        "runs": [
            {
                "rank": rank, "loss": rounded(run.loss[i]), "gradient_norm": rounded(run.gradient_norm[i]),
                "output_rms": rounded(run.output_rms[i]), "held_out": rounded([held_out[i]])[0], "diverged": run.diverged[i], **spectra[i],
            }
            for i, rank in enumerate(c["ranks"])
        ]
    }  # fmt: skip


def _spectra(run: StackedRun, i: int) -> dict[str, float | None]:
    """Stable rank and participation ratio of the added weights, each the mean over the linears."""
    found = [spectrum(run.delta(i, layer)) for layer in run.factors(i)]
    stable, participation = zip(*found, strict=True)
    return {"stable_rank": rounded([float(np.mean(stable))])[0], "participation": rounded([float(np.mean(participation))])[0]}


def spectrum(delta: Tensor) -> tuple[float, float]:
    """(|D|_F**2 / |D|_2**2, (sum s**2)**2 / sum s**4) of a matrix of singular values s; NaN where it is zero or not finite."""
    delta = delta.double()
    if not bool(torch.isfinite(delta).all()):
        return math.nan, math.nan
    # Squares of singular values from the smaller Gram matrix: both ratios need no more, and small ones weigh nothing in them.
    gram = delta @ delta.T if delta.shape[0] <= delta.shape[1] else delta.T @ delta
    squares = torch.linalg.eigvalsh(gram).clamp_min(0)
    total = float(squares.sum())
    if total == 0:
        return math.nan, math.nan
    return total / float(squares.max()), total**2 / float(squares.square().sum())


def rank_free(configuration: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Curves of LoRA at any rank under SGD, through A_0'A_0 alone."""
    c = configuration
    task, losses = _rank_free_losses(c, seed)
    rule = as_rule(c["rule"])
    with one_thread(torch.device("cpu")):
        runs = []
        for rank in c["ranks"]:
            modules = build_rank_free(task.model, task.targets, rank=rank, gamma=rule.gamma(rank, c["alpha"]), seed=seed)
            found = train_rank_free(task.model, modules, losses, optimizer=as_optimizer("sgd"), lr=c["lr"])
            runs.append({"rank": rank, **_curves(found), "held_out": _held_out_with(task, found.deltas, c)})
        before = _held_out_with(task, {}, c)
    return {"runs": runs, "held_out_before": before}


def distance_to_full(configuration: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """How far LoRA of each rank ends from full fine-tuning at the learning rates of its limit, module by module, over how far that went."""
    c = configuration
    task, losses = _rank_free_losses(c, seed)
    rule = as_rule(c["rule"])
    limit = limit_of_rank("lora", rule)
    shapes = {name: tuple(linear_at(task.model, name).weight.shape) for name in task.targets}
    rates = limit.by_module({name: (rows, columns) for name, (rows, columns) in shapes.items()}, alpha=c["alpha"], lr=c["lr"])
    with one_thread(torch.device("cpu")):
        whole = train_full(task.model, rates, losses, optimizer=as_optimizer("sgd"))
        runs = []
        for rank in c["ranks"]:
            modules = build_rank_free(task.model, task.targets, rank=rank, gamma=rule.gamma(rank, c["alpha"]), seed=seed)
            found = train_rank_free(task.model, modules, losses, optimizer=as_optimizer("sgd"), lr=c["lr"])
            apart = [float((found.deltas[name] - whole.deltas[name]).norm() / whole.deltas[name].norm()) for name in task.targets]
            runs.append({"rank": rank, "distance": rounded(apart), "loss": rounded(found.losses)})
    return {
        "modules": list(task.targets),
        "shapes": [list(shapes[name]) for name in task.targets],
        "runs": runs,
        "loss": rounded(whole.losses),
    }


def _rank_free_losses(c: Mapping[str, Any], seed: int) -> tuple[Task, list[Callable[[], Tensor]]]:
    task = _task(c["tokens"], torch.float64)
    batches = [task.batch(step, seed) for step in range(c["steps"])]
    return task, [lambda batch=batch: task.losses(task.model, batch, 1)[0] for batch in batches]


def _curves(found: Trajectory) -> dict[str, Any]:
    return {"loss": rounded(found.losses[:-1]), "gradient_norm": rounded(found.gradient_norms)}


def _held_out_with(task: Task, deltas: Mapping[str, Tensor], c: Mapping[str, Any]) -> float | None:
    """The held-out loss with weights added to the linears; they are as before afterwards."""
    weights = {name: linear_at(task.model, name).weight for name in deltas}
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    with torch.no_grad():
        try:
            for name, weight in weights.items():
                weight += deltas[name]
            each = [float(task.losses(task.model, {"tokens": batch}, 1)[0]) for batch in _held_out(c["tokens"], c["held_out"])]
        finally:
            for name, weight in weights.items():
                weight.copy_(before[name])
    return rounded([float(np.mean(each))])[0]


def merging(configuration: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Outputs, bytes and latency of the base, of the base with adapters beside it, and with adapters merged into its weights.

    Factors are random, B too: with B at zero a merge that loses the adapter would pass. Latencies are medians of alternating repeats.
    """
    import time

    c = configuration
    runs = []
    for rank in c["ranks"]:
        exact = _merged(_task(c["tokens"], torch.float64), rank, c, seed)
        task = _task(c["tokens"], torch.float32)
        model, tokens = task.model, _held_out(c["tokens"], 1)[0]
        base_bytes = sum(p.numel() * p.element_size() for p in model.parameters())
        adapters = _random_adapters(task, rank, c, seed)
        added = sum(f.numel() * f.element_size() for module in adapters.values() for f in module.parameters())
        seconds: dict[str, list[float]] = {"base": [], "beside": [], "merged": []}

        def timed(times: list[float], model: torch.nn.Module = model, tokens: Tensor = tokens) -> None:
            with torch.no_grad():
                model(tokens)
                begun = time.perf_counter()
                for _ in range(c["passes"]):
                    model(tokens)
                times.append(time.perf_counter() - begun)

        with one_thread(torch.device("cpu")):
            for _ in range(c["repeats"]):
                timed(seconds["base"])
                with attach(model, adapters):
                    timed(seconds["beside"])
                merged = _with_weights_added(model, {name: module.delta().detach() for name, module in adapters.items()})
                try:
                    timed(seconds["merged"])
                finally:
                    merged()
        base = median(seconds["base"])
        runs.append({
            "rank": rank, **exact, "bytes_base": base_bytes, "bytes_beside": base_bytes + added, "bytes_merged": base_bytes,
            "latency_beside": rounded([median(seconds["beside"]) / base])[0],
            "latency_merged": rounded([median(seconds["merged"]) / base])[0],
        })  # fmt: skip
    return {"runs": runs}


def _random_adapters(task: Task, rank: int, c: Mapping[str, Any], seed: int) -> Any:
    gamma = as_rule(c["rule"]).gamma(rank, c["alpha"])
    adapters = build_adapters(task.model, as_adapter("lora"), rank=rank, gamma=gamma, targets=task.targets, seed=seed)
    for name, module in adapters.items():
        factor = module.factor("B")
        drawn = stream(seed, "reproduce", "merging", rank, name).standard_normal(tuple(factor.shape))
        with torch.no_grad():
            factor.copy_(torch.from_numpy(drawn) * c["spread"])
    return adapters


def _merged(task: Task, rank: int, c: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Largest differences of the logits in float64, over their largest change by the adapter; and whether unmerging restores every bit."""
    model, tokens = task.model, _held_out(c["tokens"], 1)[0]
    before = [p.detach().clone() for p in model.parameters()]
    adapters = _random_adapters(task, rank, c, seed)
    with torch.no_grad(), one_thread(torch.device("cpu")):
        plain = model(tokens)
        with attach(model, adapters) as attached:
            beside = model(tokens)
            merge(attached)
            merged = model(tokens)
            unmerge(attached)
        restored = all(bool((a == b).all()) for a, b in zip(before, model.parameters(), strict=True))
    moved = float((beside - plain).abs().max())
    return {"moved": rounded([moved])[0], "difference": rounded([float((merged - beside).abs().max()) / moved])[0], "restored": restored}


def _with_weights_added(model: torch.nn.Module, deltas: Mapping[str, Tensor]) -> Callable[[], None]:
    """Adds weights to linears, as a deployed merge does, and returns what undoes it."""
    before = {name: linear_at(model, name).weight.detach().clone() for name in deltas}
    with torch.no_grad():
        for name, delta in deltas.items():
            linear_at(model, name).weight.add_(delta)

    def undo() -> None:
        with torch.no_grad():
            for name, weight in before.items():
                linear_at(model, name).weight.copy_(weight)

    return undo


def rounded(values: Sequence[float] | np.ndarray) -> list[float | None]:
    """To six significant digits; None where a number is not finite."""
    return [float(f"{float(v):.{DIGITS}g}") if math.isfinite(v) else None for v in values]
