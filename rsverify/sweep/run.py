"""Runs the cells that are not yet in the journal, and keeps each as soon as it is finished."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

from rsverify.errors import InputError, RsverifyError
from rsverify.sweep.cells import Cell, load_function, perform
from rsverify.sweep.journal import Journal

IN_FLIGHT = 64
"""Cells handed out at once: enough for any pool here, few enough that a stop cancels little."""

Progress = Callable[[int, int, Cell], None]


@dataclass(frozen=True)
class Outcome:
    """A finished cell with its result; `resumed` says that it was read from the journal."""

    cell: Cell
    result: Any
    resumed: bool


class SweepFailed(RsverifyError):
    """Some cells raised; all others are finished and kept. `errors` holds (cell, what it said)."""

    def __init__(self, errors: Sequence[tuple[Cell, str]], *, total: int) -> None:
        self.errors = tuple(errors)
        first, said = errors[0]
        super().__init__(f"{len(errors)} of {total} cells failed, the others are kept; the first was {first.text}: {said}")


def run_sweep(
    cells: Sequence[Cell], *, journal: Journal | None = None, executor: Executor, progress: Progress | None = None
) -> list[Outcome]:
    """Run every cell that the journal does not hold, in any order, and return all outcomes in the order of `cells`.

    A cell that raises does not stop the others. An interruption, a full disk or a killed process loses only cells that
    were not finished; the same call again runs just those.

    Args: progress(done, total, cell) is called after every finished cell.
    Raises: InputError before any work for cells of one key, or a function that cannot be imported; SweepFailed at the end;
        JournalError where the journal can no longer be written.
    """
    keys = [cell.key for cell in cells]
    if len(set(keys)) < len(keys):
        twice = next(cell for cell in cells if keys.count(cell.key) > 1)
        raise InputError(f"cells: {twice.text} stands there twice; one cell is run once")
    for name in {cell.function for cell in cells}:
        load_function(name)
    held = journal.finished() if journal is not None else {}
    results = {key: held[key] for key in keys if key in held}
    waiting = [cell for cell in cells if cell.key not in results]
    errors: list[tuple[Cell, str]] = []
    running: dict[Future[tuple[str, float]], Cell] = {}
    try:
        while waiting or running:
            # What is finished is kept before more is handed out: an executor may do the work while taking it.
            while waiting and len(running) < IN_FLIGHT and not any(future.done() for future in running):
                cell = waiting.pop(0)
                running[executor.submit(perform, cell.function, dict(cell.configuration), cell.seed)] = cell
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                cell = running.pop(future)
                try:
                    result, seconds = future.result()
                except (KeyboardInterrupt, CancelledError):
                    raise
                except BrokenProcessPool:
                    cure = "a worker died, most likely out of memory: give fewer workers; finished cells are kept"
                    raise RsverifyError(f"{len(results)} of {len(cells)} cells are finished; {cure}") from None
                except Exception as error:
                    errors.append((cell, f"{type(error).__name__}: {error}"))
                    continue
                if journal is not None:
                    journal.record(cell, result, seconds=seconds)
                results[cell.key] = result
                if progress is not None:
                    progress(len(results), len(cells), cell)
    except BaseException:
        for future in running:
            future.cancel()
        raise
    if errors:
        raise SweepFailed(errors, total=len(cells))
    return [Outcome(cell, json.loads(results[cell.key]), cell.key in held) for cell in cells]
