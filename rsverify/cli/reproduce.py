"""`rsverify reproduce`: the article's claims on a real transformer."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from rsverify.cli.options import Executor, Json, Scheduler, Seed, Whole, refuse_unwritable, where, write_json
from rsverify.cli.stages import shown
from rsverify.errors import refuse_no_workers


def reproduce(
    figure: Annotated[str | None, Parameter(help="A figure's name; without one all are made. A wrong one lists all.")] = None,
    /,
    *,
    quick: Annotated[bool, Parameter(help="Few steps and ranks: some three minutes on two cores.")] = False,
    seeds: Annotated[Whole | None, Parameter(help="Seeds of each of the two repeats [20; 3 with --quick].")] = None,
    steps: Annotated[Whole | None, Parameter(help="Steps of every run [180; 12 with --quick].")] = None,
    workers: Annotated[Whole | None, Parameter(allow_leading_hyphen=True, help="Processes [as many as cores].")] = None,
    executor: Executor = None,
    scheduler: Scheduler = None,
    out: Annotated[Path, Parameter(help="Folder of reproduce.html, reproduce.json, pictures and the journal.")] = Path(
        "rsverify-reproduce"
    ),
    against: Annotated[
        Path | None, Parameter(help="reproduce.json of an earlier run with another --seed: what came again is said.")
    ] = None,
    seed: Seed = 0,
    json: Json = None,
) -> int:
    """Train the source article's experiments on a small transformer and say of each claim whether it holds here.

    Without a figure all are made, in some half an hour on two cores; what is finished is kept, and the same command goes on.
    Exit code 0 = every claim holds, 1 = one does not or only in part, 2 = bad input, 3 = one is inconclusive.

    For example:

    - `rsverify reproduce`
    - `rsverify reproduce limit --out run`
    - `rsverify reproduce --quick`
    - `rsverify reproduce --seed 1 --against run/reproduce.json --out again`
    """
    from rich.console import Console
    from rich.table import Table

    from rsverify.errors import InputError
    from rsverify.studies.reproduce import plan as plans
    from rsverify.studies.reproduce import study
    from rsverify.studies.reproduce.comparing import read_record
    from rsverify.studies.reproduce.writing import write

    refuse_unwritable(json)
    refuse_no_workers(workers)
    kind = where(executor, scheduler)
    if steps is not None and steps < 1:
        raise InputError(f"steps={steps}; expected at least 1")
    plan = (plans.quick if quick else plans.full)(seed=seed, seeds=seeds, steps=steps)
    earlier = None if against is None else read_record(against, plan)
    with shown("reproduce") as progress:
        report = study.reproduce(figure, plan=plan, out=out, workers=workers, kind=kind, scheduler=scheduler, progress=progress)
    words = ["rsverify", "reproduce", *([figure] if figure else []), *(["--quick"] if quick else [])]
    words += [f"--{name} {value}" for name, value in (("seeds", seeds), ("steps", steps)) if value is not None]
    words += [f"--seed {seed}"] if seed else []
    words += [f"--against {against.name}"] if against else []
    data = write(report, out, kind="quick" if quick else "full", command=" ".join(words), earlier=earlier)
    table = Table(show_lines=True)
    for heading in ("figure", "claim", "here"):
        table.add_column(heading)
    for section in report.sections:
        finding = section.finding
        table.add_row(section.figure.name, section.figure.claim, f"[bold]{finding.answer}[/bold]\n{finding.sentence}")
    Console(width=None if sys.stdout.isatty() else 150, highlight=False).print(table)
    if earlier is not None:
        print(data["against"]["sentence"])
    write_json(data, json)
    print(f"Written: {out / 'reproduce.html'}, {out / 'reproduce.json'} and a picture for each figure", file=sys.stderr)
    return report.exit_code
