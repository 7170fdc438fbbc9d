"""What a long call is doing, through `logging`: a line when a stage begins, and a further one now and then while it lasts."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with a stage's name, how many parts of it are done, and how many there are."""

SECONDS = 30.0
"""Between two lines of one stage: a log without a new line for longer reads as a call that hangs."""


class Stages:
    """A `Progress` that logs each stage at level INFO and hands every call on.

    Args:
        logger: the name to log under, a module's `__name__`. progress: what else is called. clock: seconds, for the lines within a stage.
    """

    def __init__(self, logger: str, progress: Progress | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.logger, self.progress, self.clock = logging.getLogger(logger), progress, clock
        self.stage: str | None = None
        self.logged = 0.0

    def __call__(self, what: str, done: int, total: int) -> None:
        now = self.clock()
        if what != self.stage or now - self.logged >= SECONDS:
            self.logger.info("%s", what if total <= 1 else f"{what}, {done} of {total} done")
            self.stage, self.logged = what, now
        if self.progress is not None:
            self.progress(what, done, total)
