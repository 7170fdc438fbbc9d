"""`rsverify atlas`: which scaling rule is stable for every adapter and optimizer, and whether the shipped one is."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from rsverify.cli.options import Alpha, Executor, Json, Scheduler, Seed, Whole, refuse_unwritable, where, write_json, write_text
from rsverify.cli.stages import shown
from rsverify.errors import InputError, refuse_no_workers


def atlas(
    *adapters: Annotated[str, Parameter(help="Names of the atlas, e.g. loha or lora-gaussian; a wrong one lists all. [all]")],
    optimizer: Annotated[tuple[str, ...], Parameter(help="Optimizer; may be given several times.")] = ("sgd", "adamw"),
    quick: Annotated[bool, Parameter(help="Theory for everything, simulation of a few variants: under a minute.")] = False,
    match_at: Annotated[int | None, Parameter(allow_leading_hyphen=True, help="Rank where all rules have the shipped one's scale.")] = None,
    html: Annotated[Path | None, Parameter(help="Write a self-contained page to this file.")] = None,
    markdown: Annotated[Path | None, Parameter(help="Write Markdown for a pull request or a docs page to this file.")] = None,
    evidence: Annotated[Path | None, Parameter(help="Write the answers and numbers without their curves, as JSON, to this file.")] = None,
    journal: Annotated[Path | None, Parameter(help="Keep finished cells in this file, and go on from it.")] = None,
    workers: Annotated[Whole | None, Parameter(allow_leading_hyphen=True, help="Processes [2].")] = None,
    executor: Executor = None,
    scheduler: Scheduler = None,
    error_budget: Annotated[float, Parameter(help="False failures of the whole table.")] = 1e-6,
    margin: Annotated[float, Parameter(help="Margin of an exponent.")] = 0.1,
    alpha: Alpha = 20.0,
    seed: Seed = 0,
    json: Json = None,
) -> int:
    """Say for each adapter, init and optimizer which rule gamma(r) is stable, and whether the shipped one and 1/sqrt(r) are.

    Exit code 0 = every number of two witnesses is confirmed and every silence has its reason, 1 = witnesses contradict each
    other, 2 = bad input, 3 = something is left open.

    Example: `rsverify atlas loha loha-lycoris --markdown atlas.md --journal atlas.db`
    """
    from json import dumps

    from rich.console import Console

    from rsverify.records import to_json
    from rsverify.report import atlas as clerk
    from rsverify.studies.atlas import atlas as study

    refuse_no_workers(workers)
    kind = where(executor, scheduler)
    for path, name in ((json, "json"), (html, "html"), (markdown, "markdown"), (evidence, "evidence")):
        refuse_unwritable(path, name)
        if path is not None and (path.is_dir() or not os.access(path if path.exists() else path.resolve().parent, os.W_OK)):
            raise InputError(f"{name}={str(path)!r} cannot be written; give a file in a folder that can be")
    with shown("atlas") as progress:
        found = study(
            adapters, optimizers=optimizer, quick=quick, match_at=match_at, alpha=alpha, seed=seed, margin=margin,
            error_budget=error_budget, workers=workers, executor=kind, scheduler=scheduler, journal=journal,
            progress=progress,
        )  # fmt: skip
    data = to_json(found)
    clerk.show(data, Console(width=None if sys.stdout.isatty() else 170, highlight=False))
    words = [*adapters, *(word for name in optimizer for word in ("--optimizer", name)), "--seed", str(seed), "--alpha", f"{alpha:g}"]
    words += ["--quick"] if quick else []
    words += ["--match-at", str(match_at)] if match_at is not None else []
    _write(html, "html", clerk.page(data, command=shlex.join(["rsverify", "atlas", *words])))
    _write(markdown, "markdown", clerk.markdown(data))
    _write(evidence, "evidence", dumps(clerk.evidence(data), indent=1, ensure_ascii=False) + "\n" if evidence is not None else "")
    write_json(data, json)
    return found.exit_code


def _write(path: Path | None, name: str, text: str) -> None:
    if path is not None:
        write_text(text, path, name)
