"""Runs the cells that the figures ask for, through a journal, and lets each figure judge its claim."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

from rsverify.errors import InputError, refuse_no_workers
from rsverify.files.reading import read_object
from rsverify.files.writing import writable_folder, write_whole
from rsverify.report.rooms import room_hashes
from rsverify.stages import Progress, Stages
from rsverify.studies.reproduce.figure import Figure, Foretold, as_figures
from rsverify.studies.reproduce.judging import Finding
from rsverify.studies.reproduce.plan import Plan
from rsverify.studies.reproduce.runs import Results
from rsverify.sweep import Cell, Identity, Journal, open_executor, run_sweep
from rsverify.sweep.executors import SerialExecutor

ROUNDS = 8
"""Of asking the figures for further cells: each refinement takes one, and the plan allows fewer."""
CODE = (
    "rsverify/studies/reproduce/cells.py", "rsverify/training", "rsverify/definitions", "rsverify/statistics/streams.py",
    "rsverify/statistics/wishart.py",
)  # fmt: skip
"""The source that the numbers of cells depend on: a journal of other code is refused, one of other words is not."""


@dataclass(frozen=True)
class Section:
    """One figure of a finished run."""

    figure: Figure
    foretold: Foretold
    finding: Finding
    picture: str
    cells: int


@dataclass(frozen=True)
class Report:
    """All figures of a run; `verdict` is that of the worst of them."""

    plan: Plan
    sections: tuple[Section, ...]
    cells: int
    resumed: int
    seconds: float

    @property
    def verdict(self) -> str:
        answers = {section.finding.answer for section in self.sections}
        if answers & {"does not hold here", "holds only for"}:
            return "does_not_hold"
        return "inconclusive" if "inconclusive" in answers else "holds"

    @property
    def exit_code(self) -> int:
        return {"holds": 0, "does_not_hold": 1, "inconclusive": 3}[self.verdict]


def reproduce(
    figure: str | None = None, *, plan: Plan, out: Path, workers: int | None = None, executor: Executor | None = None,
    kind: str | None = None, scheduler: str | None = None, progress: Progress | None = None,
) -> Report:  # fmt: skip
    """Judge one figure's claim, or all; what is finished is kept in `out` and not run again.

    Predictions are made first and written to `out/predictions.json`; only then is anything trained.

    Args: executor takes the place of local processes; kind and scheduler are those of `sweep.open_executor`; progress(what, done, total).
    Raises: UnknownName for an unknown figure; InputError for a folder that cannot be written; JournalError for a journal of
        another plan, other versions or other code; SweepFailed.
    """
    refuse_no_workers(workers)
    chosen = as_figures(figure)
    report = Stages(__name__, progress)
    writable_folder(out)
    identity = Identity("reproduce", settings={**plan.to_dict(), **room_hashes(CODE)})
    with Journal(out / "journal.sqlite", identity) as journal:
        report("predict", 0, 1)
        foretold = {f.name: f.prediction(plan) for f in chosen}
        _write_predictions(foretold, out / "predictions.json")
        if executor is not None:
            results, resumed = _run(chosen, plan, journal, executor, report)
        else:
            with open_executor(kind or "processes", workers=workers, scheduler=scheduler) as pool:
                results, resumed = _run(chosen, plan, journal, pool, report)
        report("timings and figures", 0, 1)
        resumed += _run_alone(chosen, plan, journal, results)
        sections = tuple(_section(f, plan, results, foretold[f.name]) for f in chosen)
        return Report(plan, sections, len(results.of_cell), resumed, journal.seconds())


def _run(chosen: Sequence[Figure], plan: Plan, journal: Journal, executor: Executor, progress: Progress) -> tuple[Results, int]:
    results, resumed = Results(plan), 0
    for turn in range(ROUNDS):
        wanted: dict[str, Cell] = {}
        for figure in chosen:
            for cell in figure.cells(plan, results):
                if cell.key not in results.of_cell:
                    wanted.setdefault(cell.key, cell)
        if not wanted:
            return results, resumed
        what = "runs" if turn == 0 else f"refinement {turn}"
        # The longest first: a long cell begun last leaves the other core idle.
        cells = sorted(wanted.values(), key=_cost, reverse=True)
        progress(what, 0, len(cells))
        for outcome in run_sweep(
            cells, journal=journal, executor=executor, progress=lambda done, total, cell, what=what: progress(what, done, total)
        ):
            results.add(outcome.cell, outcome.result)
            resumed += outcome.resumed
    raise InputError(f"figures asked for new cells {ROUNDS} times: this is our bug")


def _run_alone(chosen: Sequence[Figure], plan: Plan, journal: Journal, results: Results) -> int:
    """Cells that measure time, one after another in this process, the others all done."""
    cells = {cell.key: cell for figure in chosen for cell in figure.alone(plan)}
    outcomes = run_sweep(list(cells.values()), journal=journal, executor=SerialExecutor())
    for outcome in outcomes:
        results.add(outcome.cell, outcome.result)
    return sum(outcome.resumed for outcome in outcomes)


def _cost(cell: Cell) -> float:
    """Roughly how long a cell takes, against others: only the order of work depends on it."""
    c = cell.configuration
    if not cell.function.endswith(":train"):
        return c["steps"] * len(c["ranks"]) * 5.0
    return c["steps"] * sum(1 + rank / 128 for rank in c["ranks"])


def _section(figure: Figure, plan: Plan, results: Results, foretold: Foretold) -> Section:
    from rsverify.studies.reproduce import drawing

    finding = figure.judge(plan, results, foretold)
    picture = drawing.svg(figure.draw(plan, results, foretold))
    mine = {cell.key for cell in (*figure.cells(plan, results), *figure.alone(plan))}
    return Section(figure, foretold, finding, picture, len(mine))


def _write_predictions(foretold: dict[str, Foretold], path: Path) -> None:
    """Written once: a later run of the same plan leaves what was said first."""
    known = read_object(path, name="predictions", expected="what an earlier run of this folder foretold") if path.exists() else {}
    new = {name: {"sentences": list(f.sentences), "numbers": f.numbers} for name, f in foretold.items() if name not in known}
    if new:
        write_whole(path, json.dumps({**known, **new}, indent=1) + "\n")
