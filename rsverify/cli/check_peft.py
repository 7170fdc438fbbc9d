"""`rsverify check peft:all`: every recipe of the PEFT that is installed, against what is known to be wrong in it."""

from __future__ import annotations

import itertools
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rsverify.cli.options import as_called, write_json, write_text
from rsverify.cli.stages import shown
from rsverify.stages import Stages

TARGET = "peft:all"


def check_all(xfails: Path | None, *, only: Sequence[str], seed: int, json: Path | None, html: Path | None = None) -> int:
    """Run all recipes; print a line for each, then each check that failed, expectedly or not, or no longer fails."""
    from importlib.metadata import version

    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from rsverify.interop.peft.everything import check_everything, every_target, exit_code
    from rsverify.interop.peft.known import not_listed
    from rsverify.records import OUTCOMES, to_json
    from rsverify.report.provenance import provenance

    begun = itertools.count()
    with shown(f"check {TARGET}") as progress:
        stages = Stages(__name__, progress)
        stages("load the methods of PEFT", 0, 1)
        found = check_everything(
            xfails, only=tuple(only) or None, seed=seed, callback=lambda target: stages(target, next(begun), len(every_target()))
        )
    console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)
    table = Table(title=f"PEFT {version('peft')}", title_justify="left")
    kinds = ("passed", "failed", "xfailed", "xpassed", "inconclusive", "skipped")
    for heading in ("target", "ran", *kinds):
        table.add_column(heading)
    for row in found:
        counts = {kind: sum(result.status == kind for result in row.results) for kind in kinds}
        ran = row.reason or str(len(row.results) - counts["skipped"])
        table.add_row(escape(row.target), escape(ran), *(str(count or "") for count in counts.values()))
    console.print(table)
    for kind, words in (
        ("failed", "failed"),
        ("xfailed", "failed as expected"),
        ("xpassed", "expected to fail, and did not: is it fixed?"),
    ):
        lines = [(row.target, result) for row in found for result in row.results if result.status == kind]
        if lines:
            console.print(f"\n[bold]{words}[/]")
        for target, result in lines:
            console.print(f"{escape(target)}  {result.name}: {escape(result.reason)}")
    code = exit_code(found)
    ran = sum(result.status != "skipped" for row in found for result in row.results)
    said = f"{ran} checks ran on {sum(not row.reason for row in found)} targets; {sum(bool(row.reason) for row in found)} not judged"
    console.print(f"\n{said}")
    unlisted = not_listed()
    if unlisted:
        console.print(f"{escape(unlisted)}: what fails is shown as it is")
    made = provenance(seed=seed, device="cpu")
    if html is not None:
        from rsverify.report.checks_of_many import WORDS, page_of_many

        numbers = {status: sum(result.status == status for row in found for result in row.results) for status in WORDS}
        counts = ", ".join(f"{number} {WORDS[status]}" for status, number in numbers.items() if number)
        page = page_of_many(
            [(row.target, row.results) for row in found if not row.reason],
            unjudged=[(row.target, row.reason) for row in found if row.reason], target=f"{TARGET}, PEFT {version('peft')}",
            question="Every method that takes a rank, PEFT's other layers and its operations, each held to what it promises. "
            + (f"{unlisted}. " if unlisted else "")
            + ("No list of expected failures was given." if xfails is None else f"Failures are expected as {xfails.name} lists them."),
            verdict=OUTCOMES[code], sentence=f"{said}: {counts}.", made=made, command=as_called("--html", "--json"),
            repeat=lambda target, name: _again(target, name, xfails=xfails, seed=seed),
        )  # fmt: skip
        write_text(page, html, "html")
    data: dict[str, Any] = {
        "schema": "rsverify/1", "complete": True, "verdict": OUTCOMES[code], "target": TARGET,
        "peft": version("peft"), "provenance": to_json(made), "ran": ran,
        **({"known_failures": unlisted} if unlisted else {}),
        "targets": [{"target": row.target, "not_judged": row.reason or None, "checks": to_json(list(row.results))} for row in found],
    }  # fmt: skip
    write_json(data, json)
    return code


def _again(target: str, name: str, *, xfails: Path | None, seed: int) -> str:
    """The command that repeats one check; a case on another layer has no target of its own on the command line."""
    words = ["rsverify", "check", TARGET if "@" in target else target, "--only", name]
    words += ["--xfails", xfails.name] if xfails is not None else []
    return shlex.join(words + (["--seed", str(seed)] if seed else []))
