"""Several cores for passes written out by hand: each thread trains its share of the configurations to the end on one core.

Such a pass is a row of products during which the interpreter is free for the other threads. Nothing is copied, forked or sent:
against forked workers this saved the copying of page tables and every first touch of a page, a third of a short run.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence

import torch

from rsverify.training.blocklinear import Switch
from rsverify.training.stack import Stack

POLL_SECONDS = 0.02
KEPT = 31 << 20
"""Bytes. glibc gives blocks larger than any freed before back to the system, to be faulted in page by page at the next step; it learns
up to 32 MiB from the first block that is freed."""


def thread_count(*, configurations: int, bytes_each: int, memory: int) -> int:
    """One thread for each that torch would use itself, where each has memory for a configuration of its own."""
    return max(1, min(torch.get_num_threads(), configurations, memory // bytes_each))


def run_in_threads(
    stacks: Sequence[Stack],
    switch: Switch,
    *,
    stopped: Callable[[], bool],
    report: Callable[[], None] | None = None,
    pause: Callable[[], None] | None = None,
    pause_every: float = math.inf,
) -> None:
    """Take every stack to its last step, each in a thread of its own; returns when all are done or have stopped.

    Args: pause is called every `pause_every` seconds while all threads stand between two steps.
    Raises: the first error of a thread, when all have stopped.
    """
    before = torch.get_num_threads()
    flag, locks, errors = threading.Event(), [threading.Lock() for _ in stacks], []

    def work(stack: Stack, lock: threading.Lock) -> None:
        torch.set_num_threads(1)  # this thread's own number
        try:
            torch.empty(KEPT, dtype=torch.uint8)
            if not int(stack.done[0]):
                with lock:
                    stack.draw()
            while int(stack.done[0]) < stack.steps and not flag.is_set():
                with lock:
                    stack.advance(switch)
        except BaseException as error:
            errors.append(error)
            flag.set()

    workers = [threading.Thread(target=work, args=pair, daemon=True) for pair in zip(stacks, locks, strict=True)]
    for worker in workers:
        worker.start()
    last = time.monotonic()
    try:
        while any(worker.is_alive() for worker in workers):
            next(worker for worker in workers if worker.is_alive()).join(POLL_SECONDS)
            if stopped():
                flag.set()
            if report:
                report()
            if pause and time.monotonic() - last > pause_every and not flag.is_set():
                for lock in locks:
                    lock.acquire()
                try:
                    pause()
                finally:
                    for lock in locks:
                        lock.release()
                last = time.monotonic()
    finally:
        flag.set()
        for worker in workers:
            worker.join()
        torch.set_num_threads(before)
    if errors:
        raise errors[0]
