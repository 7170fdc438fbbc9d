"""`rsverify check peft:all`: every recipe of the PEFT that is installed, against what is known to be wrong in it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rsverify.cli.options import write_json

TARGET = "peft:all"


def check_all(xfails: Path | None, *, only: Sequence[str], seed: int, json: Path | None) -> int:
    """Run all recipes; print a line for each, then each check that failed, expectedly or not, or no longer fails."""
    from importlib.metadata import version

    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from rsverify.interop.peft.everything import check_everything, exit_code
    from rsverify.records import OUTCOMES, to_json
    from rsverify.report.provenance import provenance

    status = Console(stderr=True)
    with status.status("checking") as spinner:
        found = check_everything(xfails, only=tuple(only) or None, seed=seed, callback=lambda text: spinner.update(escape(text)))
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
    console.print(
        f"\n{ran} checks ran on {sum(not row.reason for row in found)} targets; {sum(bool(row.reason) for row in found)} not judged"
    )
    data: dict[str, Any] = {
        "schema": "rsverify/1", "complete": True, "verdict": OUTCOMES[code], "target": TARGET,
        "peft": version("peft"), "provenance": to_json(provenance(seed=seed, device="cpu")), "ran": ran,
        "targets": [{"target": row.target, "not_judged": row.reason or None, "checks": to_json(list(row.results))} for row in found],
    }  # fmt: skip
    write_json(data, json)
    return code
