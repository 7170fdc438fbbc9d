"""CUDA's two faults without a GPU: a host tensor among the device's, and a host that waits for the device inside a step.

Every piece runs whole on the double of `device_double.py` and gives the CPU's numbers; each is seen to catch a planted `.item()` and a
planted host tensor. Run by `test_device_double.py` in a process of its own: autograd counts its devices at its first backward pass.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rsverify.conformance.declared import declared_subject
from rsverify.conformance.registry import checks
from rsverify.conformance.runner import check_adapter
from rsverify.definitions.optimizers import as_optimizer
from rsverify.definitions.registry import as_declared
from rsverify.training import Configuration, measure, train_stacked
from rsverify.training.adapters.rank_free import build_rank_free, train_rank_free
from rsverify.training.first_step.probes import capture
from rsverify.training.first_step.small_lr import loss_decrease_check
from rsverify.training.model.problem import Problem
from rsverify.training.stack.stack import Stack

sys.path.insert(0, str(Path(__file__).parent))

import device_double
from device_double import Mixed, counted
from test_devices import MATRIX, task_on
from test_stacked import MIXED

pytestmark = pytest.mark.training
PLACE = "blocks.0.attention_norm"
"""A module of the model that every pass goes through."""


@pytest.fixture(scope="module")
def double():
    return device_double.device()


def waits(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
    output.detach().sum().item()


def mixes(module: nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
    return output + torch.zeros(output.shape, dtype=output.dtype, device="cpu")


def planted_task(device: torch.device | str, plant: Callable[..., Any] | None = None) -> Any:
    task = task_on(device)
    if plant is not None:
        task.model.get_submodule(PLACE).register_forward_hook(plant)
    return task


def problem_on(device: torch.device | str, plant: Callable[..., Any] | None = None) -> Problem:
    task = planted_task(device, plant)
    batch = task.batch(0, 0)
    return Problem("a small transformer", task.model, lambda: task.losses(task.model, batch, 1).sum(), task.targets, {})


@contextmanager
def reads_of_steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What the host reads inside `Stack.advance`: the batches are drawn before, as data come from the host."""
    places: list[str] = []
    advance = Stack.advance

    def watched(self: Stack) -> None:
        with counted() as reads:
            advance(self)
        places.extend(reads.places)

    monkeypatch.setattr(Stack, "advance", watched)
    yield places
    monkeypatch.setattr(Stack, "advance", advance)


Piece = tuple[np.ndarray, list[str], int]
"""Numbers, what the host read on the way, and how many reads there may be: none inside a step, those of the end whatever the sizes."""


def core(device: Any, plant: Any, monkeypatch: pytest.MonkeyPatch) -> Piece:
    """Stacked training with every optimizer and every kind of adapter: losses and gradient norms."""
    wanted = [*MIXED, *MATRIX, *(Configuration(3, "alpha/r", optimizer=name, lr=1e-3) for name in ("adam", "rmsprop", "adagrad"))]
    wanted += [Configuration(2, "alpha/r", adapter=name, lr=1e-3) for name in ("loha", "vera", "dora", "pissa", "delora")]
    with reads_of_steps(monkeypatch) as places:
        run = train_stacked(planted_task(device, plant), wanted, steps=2, workers=1)
    return np.stack([run.loss, run.gradient_norm]), places, 0


def probes(device: Any, plant: Any, monkeypatch: pytest.MonkeyPatch) -> Piece:
    """One pass of the bare model and its contractions; the host may read the loss, once."""
    with counted() as reads:
        seen = capture(problem_on(device, plant))
        sums = [layer.G.square().sum() + layer.XX.sum() + layer.VV.sum() for layer in seen.layers]
    return np.array([seen.loss, *(float(value) for value in sums)]), reads.places, 1


def measured(device: Any, plant: Any, monkeypatch: pytest.MonkeyPatch) -> Piece:
    """Claims of three kinds; the host may read the loss, the six contractions and the norms of the layers: 8 numbers or arrays a claim."""
    values, places = [], []
    for asked in (
        {"optimizer": "sgd", "quantity": "update"},
        {"optimizer": "adamw", "quantity": "input_gradient"},
        {"optimizer": "signsgd", "quantity": "gradient_norm", "statistic": "frobenius", "steps": 0},
    ):
        with counted() as reads:
            answer = measure("lora", "alpha/r", problem=problem_on(device, plant), ranks=[2, 4, 12], seeds=2, **asked)
        values.append(answer.per_seed)
        places += reads.places
    return np.array(values), places, 3 * 8


def small_steps(device: Any, plant: Any, monkeypatch: pytest.MonkeyPatch) -> Piece:
    """The first step really taken; the host may read the loss and the table of answers."""
    with counted() as reads:
        answer = loss_decrease_check(problem_on(device, plant), rule="alpha/r", optimizer="adamw", ranks=[2, 4], draws=1)
    return answer.practical, reads.places, 2


def rank_free(device: Any, plant: Any, monkeypatch: pytest.MonkeyPatch) -> Piece:
    """LoRA of rank 1000 as a dense layer, three steps; the host may read losses and norms at the end of the run."""
    task = planted_task(device, plant)
    modules = build_rank_free(task.model, task.targets, rank=1000, gamma=0.1)
    batches = [task.batch(at, 0) for at in range(3)]
    losses = [lambda batch=batch: task.losses(task.model, batch, 1).sum() for batch in batches]
    with counted() as reads:
        run = train_rank_free(task.model, modules, losses, optimizer=as_optimizer("momentum"), lr=1e-2)
    return np.array([*run.losses, *run.gradient_norms]), reads.places, 2


PIECES = (core, probes, measured, small_steps, rank_free)


@pytest.mark.parametrize("piece", PIECES)
def test_a_piece_runs_whole_with_the_numbers_of_the_cpu_and_no_wait_inside_a_step(piece, double, monkeypatch):
    monkeypatch.setenv("RSVERIFY_NATIVE", "off")
    there, places, allowed = piece(double, None, monkeypatch)
    assert len(places) == allowed, places
    here, _, _ = piece("cpu", None, monkeypatch)
    np.testing.assert_allclose(there, here, rtol=1e-11)  # float64: the same operations, batched differently at most


@pytest.mark.parametrize("piece", PIECES)
def test_a_planted_wait_is_counted(piece, double, monkeypatch):
    _, places, allowed = piece(double, waits, monkeypatch)
    assert len(places) > allowed
    assert any("_local_scalar_dense" in place and "output.detach().sum().item()" in place for place in places)


@pytest.mark.parametrize("piece", PIECES)
def test_a_planted_host_tensor_is_refused(piece, double, monkeypatch):
    with pytest.raises(Mixed, match="met one of the device"):
        piece(double, mixes, monkeypatch)


def run_checks(double: torch.device, plant: Any, names: list[str] | None = None) -> tuple[dict[str, str], list[str]]:
    """Answers by check, and what the host reads inside the adapter's forward pass; a check itself reads what it judges."""
    subject = declared_subject(as_declared("lora"), None, alpha=20.0)
    build, places = subject.build, []

    def watched(rank: int, base: nn.Linear, alpha: float) -> nn.Module:
        module = build(rank, base, alpha)
        forward = module.forward

        def counting(*args: Any, **kwargs: Any) -> Any:
            with counted() as reads:
                output = forward(*args, **kwargs)
                output = (
                    output if plant is None else plant(module, args, output) if plant is mixes else (plant(module, args, output), output)[1]
                )
            places.extend(reads.places)
            return output

        module.forward = counting  # type: ignore[method-assign]
        return module

    subject = dataclasses.replace(subject, build=watched)
    names = names or [name for name, check in checks().items() if check.family != "stability"] + ["check_gradient_norm"]
    with torch.device(double):
        results = check_adapter(subject, on_fail="return", only=names, error_budget=0.1)
    return {result.name: result.status for result in results}, places


def test_the_checks_run_whole_on_the_device(double):
    answers, places = run_checks(double, None)
    assert [name for name, status in answers.items() if status not in ("passed", "skipped")] == []
    assert sum(status == "passed" for status in answers.values()) > 45
    assert places == []


def test_the_checks_catch_what_is_planted(double):
    _, places = run_checks(double, waits, ["check_merge_function"])
    assert any("_local_scalar_dense" in place for place in places)
    answers, _ = run_checks(double, mixes, ["check_build_module"])
    assert answers["check_build_module"] == "failed"


@pytest.mark.parametrize(
    "read",
    [
        lambda t: t.sum().item(), lambda t: float(t.sum()), lambda t: int(t.sum()), lambda t: bool((t > 0).all()), lambda t: t.tolist(),
        lambda t: t.cpu(), lambda t: t.to("cpu"), lambda t: t.nonzero(), lambda t: t[t > 0], lambda t: torch.equal(t, t),
        lambda t: torch.allclose(t, t), lambda t: torch.zeros(4).copy_(t), lambda t: torch.masked_select(t, t > 0),
        lambda t: t.unique(), lambda t: t.numpy(force=True), lambda t: "yes" if t.max() > 0 else "no", lambda t: torch.where(t > 0),
        lambda t: [v.item() for v in t],
    ],
)  # fmt: skip
def test_the_double_counts_every_read(double, read):
    values = torch.arange(4.0, device=double)
    with counted() as reads:
        read(values)
    assert reads.count >= 1


@pytest.mark.parametrize(
    "work",
    [
        lambda t: t + 1, lambda t: t @ t, lambda t: t.square_().sum(), lambda t: torch.where(t > 0, t, 0.0),
        lambda t: t.to(torch.float64), lambda t: t[1:].add_(t[:1]), lambda t: torch.zeros_like(t), lambda t: t * torch.tensor(2.0),
        lambda t: torch.linalg.svd(t.outer(t)), lambda t: torch.einsum("i,j->ij", t, t), lambda t: torch.stack([t, t])[None].squeeze_(0),
        lambda t: t.index_select(0, torch.tensor([1], device=t.device)),
    ],
)  # fmt: skip
def test_work_on_the_device_is_no_read(double, work):
    values = torch.arange(4.0, device=double)
    with counted() as reads:
        work(values)
    assert reads.count == 0


@pytest.mark.parametrize(
    "mix",
    [
        lambda t: t + torch.ones(4), lambda t: torch.ones(4) @ t, lambda t: t.add_(torch.ones(4)), lambda t: torch.cat([t, torch.ones(1)]),
        lambda t: torch.where(torch.ones(4) > 0, t, t), lambda t: nn.functional.linear(t, torch.ones(2, 4)), lambda t: t.numpy(),
        np.asarray,
    ],
)  # fmt: skip
def test_the_double_refuses_the_hosts_tensors(double, mix):
    with pytest.raises((Mixed, TypeError), match=r"met one of the device|to numpy"):
        mix(torch.arange(4.0, device=double))


def test_a_module_moves_there_and_changes_its_type(double):
    module = nn.Linear(3, 2).to(double)
    assert module.weight.device.type == device_double.NAME
    moved = module.double()
    assert moved.weight.dtype == moved.weight.inner.dtype == torch.float64
    assert moved(torch.ones(1, 3, device=double, dtype=torch.float64)).shape == (1, 2)
