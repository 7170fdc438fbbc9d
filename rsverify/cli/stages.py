"""What a verb shows before its first result: a bar on a terminal, elsewhere a line on stderr for each stage."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rsverify.stages import Progress


@contextmanager
def shown(verb: str) -> Iterator[Progress]:
    """A `Progress` that moves a bar where stderr is a terminal; elsewhere the package's log is written to stderr, line by line.

    Studies log their own stages; a verb that runs none of them wraps this in `rsverify.stages.Stages`.
    """
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        with log_on_stderr(verb):
            yield lambda what, done, total: None
        return
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(verb, total=None)
        yield lambda what, done, total: bar.update(task, description=escape(what), completed=done, total=total)


@contextmanager
def log_on_stderr(verb: str) -> Iterator[None]:
    """Within it, what the package logs at level INFO or above is a line of stderr that begins with the verb."""
    logger = logging.getLogger("rsverify")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(f"{verb}: %(message)s"))
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
