"""Workers, threads or processes, that each take a stack to its last step: what they do, and how they are watched from outside."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any, Protocol

from rsverify.training.stack.stack import Stack

POLL_SECONDS = 0.02


class Worker(Protocol):
    """What a thread and a process have in common."""

    def start(self) -> None: ...
    def join(self, timeout: float | None = None) -> None: ...
    def is_alive(self) -> bool: ...


def take(stack: Stack, lock: AbstractContextManager[Any], *, halted: Callable[[], bool]) -> None:
    """Bring a stack to its last step, or to the one at which it is halted; the lock is free between two steps."""
    if not int(stack.done[0]):
        with lock:
            stack.draw()
    while int(stack.done[0]) < stack.steps and not halted():
        with lock:
            stack.advance()


def watch(
    workers: Sequence[Worker],
    locks: Sequence[AbstractContextManager[Any]],
    *,
    halt: Callable[[], object],
    stopped: Callable[[], bool],
    report: Callable[[], None] | None = None,
    pause: Callable[[], None] | None = None,
    pause_every: float = math.inf,
) -> None:
    """Start workers and stay with them until all have ended; an error from outside halts them first.

    Args: halt tells them to end after the step at hand, which is done when `stopped`; pause is called every `pause_every` seconds
    while all stand between two steps.
    """
    for worker in workers:
        worker.start()
    last, halting = time.monotonic(), False
    try:
        while alive := [worker for worker in workers if worker.is_alive()]:
            alive[0].join(POLL_SECONDS)
            if stopped():
                halt()
                halting = True
            if report:
                report()
            if pause and not halting and time.monotonic() - last > pause_every:
                with ExitStack() as held:
                    for lock in locks:
                        held.enter_context(lock)
                    pause()
                last = time.monotonic()
    finally:
        halt()
        for worker in workers:
            worker.join()
