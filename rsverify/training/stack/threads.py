"""Several cores for the kernels: each thread trains its share of the configurations to the end on one core.

Such a pass is a row of calls during which the interpreter is free for the other threads. Nothing is copied, forked or sent:
against forked workers this saved the copying of page tables and every first touch of a page, a third of a short run.
"""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable, Sequence

import torch

from rsverify.training.stack.stack import Stack
from rsverify.training.stack.watching import take, watch

KEPT = 31 << 20
"""Bytes. glibc gives blocks larger than any freed before back to the system, to be faulted in page by page at the next step; it learns
up to 32 MiB from the first block that is freed."""

SWITCH_SECONDS = 5e-4
"""After which a thread at work in the interpreter lets another in. By default it is 5 ms, half a step of small models: a thread that
draws its factors would keep the next one from even starting."""


def thread_count(*, configurations: int, bytes_each: int, memory: int) -> int:
    """One thread for each that torch would use itself, where each has memory for a configuration of its own."""
    return max(1, min(torch.get_num_threads(), configurations, memory // bytes_each))


def run_in_threads(
    stacks: Sequence[Stack],
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
    before, interval = torch.get_num_threads(), sys.getswitchinterval()
    flag, locks, errors = threading.Event(), [threading.Lock() for _ in stacks], []

    def work(stack: Stack, lock: threading.Lock) -> None:
        torch.set_num_threads(1)  # this thread's own number
        try:
            torch.empty(KEPT, dtype=torch.uint8)
            take(stack, lock, halted=flag.is_set)
        except BaseException as error:
            errors.append(error)
            flag.set()

    workers = [threading.Thread(target=work, args=pair, daemon=True) for pair in zip(stacks, locks, strict=True)]
    try:
        sys.setswitchinterval(SWITCH_SECONDS)
        watch(
            workers, locks, halt=flag.set, stopped=lambda: flag.is_set() or stopped(),
            report=report, pause=pause, pause_every=pause_every,
        )  # fmt: skip
    finally:
        sys.setswitchinterval(interval)
        torch.set_num_threads(before)
    if errors:
        raise errors[0]
