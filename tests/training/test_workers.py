"""Workers forked on a CPU: the same numbers as in one process, errors told, interruption kept."""

from __future__ import annotations

import math
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rsverify.errors import BudgetError, InputError, RsverifyError
from rsverify.training.stack import room
from rsverify.training.stack import train as stacked
from rsverify.training.stack.configuration import grid
from rsverify.training.stack.train import train_stacked
from rsverify.training.stack.workers import shared_zeros, shares, worker_count

sys.path.insert(0, str(Path(__file__).parent))

from test_stacked import MIXED, small_task

pytestmark = [pytest.mark.training, pytest.mark.skipif(not sys.platform.startswith("linux"), reason="workers are forked on Linux only")]


def test_workers_change_nothing_but_rounding():
    one = train_stacked(small_task(), MIXED, steps=3, workers=1)
    three = train_stacked(small_task(), MIXED, steps=3, workers=3)
    np.testing.assert_allclose(three.loss, one.loss, rtol=1e-12)
    np.testing.assert_allclose(three.gradient_norm, one.gradient_norm, rtol=1e-11)
    np.testing.assert_allclose(three.output_rms, one.output_rms, rtol=1e-11)
    torch.testing.assert_close(three.factors(5)["blocks.1.feed_forward.up"], one.factors(5)["blocks.1.feed_forward.up"])
    np.testing.assert_allclose(three.evaluate(small_task().batch(5, 0)), one.evaluate(small_task().batch(5, 0)), rtol=1e-12)


def test_stacks_are_built_on_one_thread_and_the_number_is_given_back(monkeypatch):
    """Threads of torch that helped to fill large buffers go on to spin, on the cores of those that train."""
    seen = []

    class Watched(stacked.Stack):
        def __init__(self, *given, **named):
            seen.append(torch.get_num_threads())
            super().__init__(*given, **named)

    before = torch.get_num_threads()
    monkeypatch.setattr(stacked, "Stack", Watched)
    try:
        torch.set_num_threads(2)
        train_stacked(small_task(), MIXED[:4], steps=1, workers=2)
        assert seen == [1, 1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_an_error_in_a_worker_is_told():
    task = small_task()

    def losses(model, batch, copies):
        if torch.is_grad_enabled() and os.getpid() != parent:
            raise InputError("the batch is odd")
        return task.losses(model, batch, copies)

    parent = os.getpid()
    with pytest.raises(RsverifyError, match="the batch is odd"):
        train_stacked(replace(task, losses=losses), MIXED[:4], steps=2, workers=2)


def test_a_killed_worker_is_told_with_the_cure():
    task = small_task()

    def losses(model, batch, copies):
        if os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return task.losses(model, batch, copies)

    parent = os.getpid()
    with pytest.raises(BudgetError, match="lower --memory"):
        train_stacked(replace(task, losses=losses), MIXED[:4], steps=2, workers=2)


@pytest.mark.parametrize("workers", [1, 2])
def test_interruption_keeps_the_steps_done(workers):
    task, before = small_task(), signal.getsignal(signal.SIGINT)
    sent: list[int] = []

    def report(found):
        if min(found.steps) >= 2 and not sent:
            sent.append(1)
            os.kill(os.getpid(), signal.SIGINT)

    run = train_stacked(task, MIXED[:4], steps=20_000, workers=workers, report=report, report_every=0)
    assert not run.complete
    assert all(2 <= n < 20_000 for n in run.steps)
    for i, n in enumerate(run.steps):
        assert np.isfinite(run.loss[i, :n]).all()
        assert np.isnan(run.loss[i, n:]).all()
    assert signal.getsignal(signal.SIGINT) is before  # a job in the background has it ignored


def test_shares_are_neighbours_of_equal_cost():
    assert shares([1, 1, 1, 1], 2) == [[0, 1], [2, 3]]
    assert shares([1, 1, 1, 9], 2) == [[0, 1, 2], [3]]
    assert shares([5], 3) == [[0]]
    costs = [float(c.rank) for c in grid("4:128", ["alpha/r", "alpha/sqrt(r)"], seeds=range(3))]
    parts = shares(costs, 2)
    assert sorted(i for part in parts for i in part) == list(range(36))
    assert max(sum(costs[i] for i in part) for part in parts) <= sum(costs) / 2 + max(costs)


def test_no_worker_where_forking_is_of_no_use():
    cpu = torch.device("cpu")
    assert worker_count(device=torch.device("cuda"), configurations=9, bytes_each=1, memory=100) == 1
    assert worker_count(device=cpu, configurations=9, bytes_each=60, memory=100) == 1
    assert worker_count(device=cpu, configurations=1, bytes_each=1, memory=100) == 1


def test_every_core_gets_room_for_a_configuration_unless_that_is_too_much(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(room, "available_bytes", lambda device: 100 * room.LEAST)
    found = lambda each, many, at="cpu": room.activation_room(device=torch.device(at), configurations=many, bytes_each=each)  # noqa: E731
    assert found(1, 36) == room.LEAST
    assert found(room.LEAST, 36) == 4 * room.LEAST
    assert found(room.LEAST, 2) == 2 * room.LEAST
    assert found(20 * room.LEAST, 36) == 25 * room.LEAST  # a quarter of what is free: one worker
    assert found(1, 36, "cuda") == 25 * room.LEAST
    kept = room.activation_room(device=torch.device("cuda"), configurations=1, bytes_each=1, kept=60 * room.LEAST)
    assert kept == 10 * room.LEAST
    monkeypatch.setattr(room, "available_bytes", lambda device: math.inf)
    assert found(20 * room.LEAST, 36) == 80 * room.LEAST


def test_a_containers_bound_counts(tmp_path):
    cpu = torch.device("cpu")
    free = room.available_bytes(cpu, cgroup=tmp_path)
    assert 1e6 < free < math.inf
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000\n")
    (tmp_path / "memory.stat").write_text("anon 400\ninactive_file 300\nactive_file 200\n")
    assert room.available_bytes(cpu, cgroup=tmp_path) > 1e6
    (tmp_path / "memory.max").write_text("5000\n")
    assert room.available_bytes(cpu, cgroup=tmp_path) == 4500  # what is cached can be had
    (tmp_path / "memory.max").unlink()
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("300\n")
    (tmp_path / "memory" / "memory.usage_in_bytes").write_text("900\n")
    (tmp_path / "memory" / "memory.stat").write_text("inactive_file 100\n")
    assert room.available_bytes(cpu, cgroup=tmp_path) == 0


def test_no_core_stands_idle_where_a_configuration_fills_the_usual_memory(monkeypatch):
    monkeypatch.setattr(room, "LEAST", 1)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        run = train_stacked(small_task(), grid("4:8", ["alpha/r"]), steps=2)
    finally:
        torch.set_num_threads(before)
    assert len({s for s, _ in run._where}) == 2


def test_shared_memory_is_seen_across_a_fork():
    values = shared_zeros((2, 3), dtype=torch.float64)
    child = os.fork()
    if not child:
        values[1, 2] = 7.0
        os._exit(0)
    os.waitpid(child, 0)
    assert values[1, 2] == 7.0
    assert shared_zeros((0, 3), dtype=torch.float32).shape == (0, 3)
