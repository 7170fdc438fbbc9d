"""Small shapes on several cores: each worker, forked once, trains its share of the configurations to the end on one thread.

A small matrix product gains little from a second thread, while configurations are independent. Factors, optimizer states and logs
lie in memory that parent and workers share, so that nothing is sent back and a killed parent loses only what no checkpoint holds.
"""

from __future__ import annotations

import ctypes
import itertools
import math
import mmap
import multiprocessing
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from rsverify.errors import BudgetError, RsverifyError
from rsverify.training.stack.stack import Stack
from rsverify.training.stack.watching import take, watch


def shared_zeros(shape: Sequence[int], *, dtype: torch.dtype, device: Any = None) -> Tensor:
    """As torch.zeros, in memory that processes forked later share (anonymous, so that no size of /dev/shm binds)."""
    count = math.prod(shape)
    room = mmap.mmap(-1, max(1, count * dtype.itemsize))
    return torch.frombuffer(room, dtype=dtype, count=count).view(*shape) if count else torch.zeros(tuple(shape), dtype=dtype)


def worker_count(*, device: torch.device, configurations: int, bytes_each: int, memory: int) -> int:
    """How many workers to fork: one a thread, where forking is safe and each still has memory for a configuration of its own."""
    threads = torch.get_num_threads()
    if device.type != "cpu" or not sys.platform.startswith("linux") or torch.cuda.is_initialized():
        return 1
    if torch.cuda.device_count() or multiprocessing.current_process().daemon:
        return 1  # autograd starts a thread per GPU, which no fork survives
    return max(1, min(threads, configurations, memory // bytes_each))


def shares(costs: Sequence[float], workers: int) -> list[list[int]]:
    """Neighbours of equal total cost: configurations of one rank stay together, as each group of them costs calls of its own."""
    edges, total, sums = [0], sum(costs), list(itertools.accumulate(costs, initial=0.0))
    for k in range(1, workers):
        goal = total * k / workers
        edges.append(min(range(edges[-1], len(costs) + 1), key=lambda i: abs(sums[i] - goal)))
    edges.append(len(costs))
    return [list(range(lo, hi)) for lo, hi in itertools.pairwise(edges) if lo < hi]


def run_in_workers(
    stacks: Sequence[Stack],
    *,
    stopped: Callable[[], bool],
    report: Callable[[], None] | None = None,
    pause: Callable[[], None] | None = None,
    pause_every: float = math.inf,
) -> None:
    """Take every stack to its last step, each in a process of its own; returns when all are done or have stopped.

    Args: pause is called every `pause_every` seconds while all workers stand between two steps.
    Raises: the worker's own error as text; BudgetError where a worker was killed, which is how a system short of memory ends it.
    """
    context = multiprocessing.get_context("fork")
    locks = [context.Lock() for _ in stacks]
    flag = shared_zeros((1,), dtype=torch.int64)
    pipes = [context.Pipe(duplex=False) for _ in stacks]
    workers = [
        context.Process(target=_work, args=(stack, lock, flag, pipe[1]), daemon=True)
        for stack, lock, pipe in zip(stacks, locks, pipes, strict=True)
    ]
    watch(
        workers, locks, halt=lambda: flag.fill_(1),
        stopped=lambda: stopped() or any(worker.exitcode not in (None, 0) for worker in workers),
        report=report, pause=pause, pause_every=pause_every,
    )  # fmt: skip
    for worker, (receive, _) in zip(workers, pipes, strict=True):
        if worker.exitcode:
            if receive.poll():
                raise RsverifyError(receive.recv_bytes().decode())
            raise BudgetError(
                f"a worker was killed (exit code {worker.exitcode}), most likely for memory; lower --memory, the tokens of a batch"
                " or the number of configurations, or use --workers 1",
                needed=math.nan, allowed=math.nan, unit="bytes",
            )  # fmt: skip


def _work(stack: Stack, lock: Any, flag: Tensor, pipe: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it and raises the flag
    torch.set_num_threads(1)
    _keep_freed_memory()
    try:
        take(stack, lock, halted=lambda: bool(flag[0]))
    except BaseException as error:
        message = str(error) if isinstance(error, RsverifyError) else f"a worker failed:\n{traceback.format_exc()}"
        pipe.send_bytes(message.encode())
        sys.exit(1)


def _keep_freed_memory() -> None:
    """Let glibc reuse the activations of one step in the next: given back to the system, every page is zeroed and faulted in again.

    It is the setting of this worker's process alone, and only speed depends on it.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # another C library
        return
    trim_threshold, mmap_threshold, most = -1, -3, 1 << 30
    mallopt(mmap_threshold, most)
    mallopt(trim_threshold, most)
