"""`rsverify report`: a finished run, shown again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from rsverify.cli.options import Json, Seed, refuse_unwritable, write_json


def report(
    run: Annotated[Path, Parameter(help="Folder that `rsverify verify` wrote, or its results.json.")], *, seed: Seed = 0, json: Json = None
) -> int:
    """Show a finished run again and rewrite its report.html from its results.json.

    Exit code: that of the run's verdict. The seed is taken for uniformity; nothing is drawn.

    Example: `rsverify report rsverify-out`
    """
    from rich.console import Console

    from rsverify.report.page import write_page
    from rsverify.report.results import as_results, read_results
    from rsverify.report.terminal import show

    refuse_unwritable(json)
    folder = run if run.is_dir() else run.parent
    verdict = read_results(run / "results.json" if run.is_dir() else run)
    show(verdict, Console())
    write_page(verdict, folder / "report.html", command=verdict.provenance.settings.get("command", "rsverify verify"))
    write_json(as_results(verdict), json)
    return verdict.exit_code
