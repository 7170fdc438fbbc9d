"""`rsverify check`: the conformance suite on one adapter implementation."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from rsverify.cli.options import Alpha, Json, Seed, as_called, refuse_unwritable, write_json, write_text
from rsverify.cli.stages import shown
from rsverify.stages import Stages

STYLES = {"passed": "green", "failed": "bold red", "xfailed": "yellow", "xpassed": "yellow", "inconclusive": "magenta", "skipped": "dim"}


def check(
    target: str,
    *,
    rule: Annotated[
        str | None, Parameter(allow_leading_hyphen=True, help="Scaling rule of a built-in adapter; default: its usual one.")
    ] = None,
    alpha: Alpha | None = None,
    xfails: Annotated[
        Path | None,
        Parameter(help="File of expected failures: lines '[TARGET::]check_name: reason'; TARGET may hold * and ?."),
    ] = None,
    only: Annotated[tuple[str, ...], Parameter(help="Run only the checks named; may be given several times.")] = (),
    verbose: Annotated[bool, Parameter(help="Show tracebacks of failed checks.")] = False,
    html: Annotated[Path | None, Parameter(help="Write a self-contained page to this file; of peft:all one page for all targets.")] = None,
    seed: Seed = 0,
    json: Json = None,
) -> int:
    """Say whether an adapter implementation is sound: structure, merging, scaling, persistence, stability.

    TARGET is a built-in adapter (lora, dora, ...) or package.module:object, where the object is an rv.Subject, an rv.Adapter or a
    function build(rank, base, alpha). Or it is a method of Hugging Face PEFT, peft:METHOD?key=value&..., an adapter_config.json, or
    peft:all for every method that takes a rank. What is known to be wrong in the PEFT that is installed is expected of a single
    method unless --xfails names another file, and of peft:all where --xfails does.

    Exit code 0 = holds, 1 = a check failed that was not expected to, 2 = bad input, 3 = none failed but one is inconclusive.

    For example:

    - `rsverify check lora --html lora.html`
    - `rsverify check my_package.adapters:build --xfails known.txt --json checks.json`
    - `rsverify check 'peft:lora?use_rslora=true&r=8&lora_alpha=20'`
    - `rsverify check peft:all --xfails known.txt --html peft.html`
    """
    from rich.console import Console
    from rich.table import Table

    from rsverify.conformance.errorbudget import error_budget
    from rsverify.conformance.registry import checks
    from rsverify.conformance.runner import ERROR_BUDGET, check_adapter, count, exit_code, summary
    from rsverify.conformance.xfails import expected_for, read_xfails
    from rsverify.errors import InputError
    from rsverify.records import OUTCOMES, to_json
    from rsverify.report.provenance import provenance
    from rsverify.report.words import OUTCOME_STYLES, OUTCOME_WORDS
    from rsverify.studies.targets import is_peft, subject_of

    refuse_unwritable(json)
    refuse_unwritable(html, "html")
    if target == "peft:all":
        if rule is not None or alpha is not None:
            raise InputError("--rule and --alpha belong to built-in adapters; a PEFT method takes them in its target")
        from rsverify.cli.check_peft import check_all

        return check_all(xfails, only=only, seed=seed, json=json, html=html)
    subject, expected, unlisted = subject_of(target, rule=rule, alpha=alpha), {}, ""
    if is_peft(target):
        from rsverify.interop.peft.everything import known_checks
        from rsverify.interop.peft.known import not_listed, refuse_list_of_another, shipped
        from rsverify.interop.peft.target import known_as

        refuse_list_of_another(xfails)
        unlisted = "" if xfails else not_listed()
        lines = xfails or shipped()
        expected = expected_for(known_as(target), read_xfails(lines, known_checks())) if lines else {}
        expected = {name: reason for name, reason in expected.items() if name in checks()}
    elif xfails is not None:
        expected = expected_for(target, read_xfails(xfails))
    finished = itertools.count(1)
    with shown("check") as progress:
        stages = Stages(__name__, progress)
        stages(target, 0, len(only or checks()))
        results = check_adapter(
            subject, expected_failed_checks=expected, on_fail="return", only=only or None, seed=seed,
            callback=lambda result: stages(target, next(finished), len(only or checks())),
        )  # fmt: skip
    if is_peft(target):
        from rsverify.interop.peft.known import without_guesses

        results = list(without_guesses(results))
    console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)
    known = checks()
    table = Table(title=f"{target}, rule {subject.scaling}, alpha {subject.alpha:g}", title_justify="left")
    for heading in ("family", "check", "answer", "why"):
        table.add_column(heading)
    for result in results:
        family = known[result.name].family
        table.add_row(family, result.name.removeprefix("check_"), f"[{STYLES[result.status]}]{result.status}[/]", _plain(result.reason))
    console.print(table)
    if verbose:
        for result in results:
            if result.status == "failed" and result.exception:
                console.print(f"\n{result.name}\n{_plain(result.exception)}")
    code = exit_code(results)
    verdict = OUTCOMES[code]
    said = f"{count(results)} of {len(results)} checks ran: {summary(results)}"
    console.print(f"[{OUTCOME_STYLES[verdict]}]{OUTCOME_WORDS[verdict]}[/]: {said}")
    if unlisted:
        console.print(f"{_plain(unlisted)}: what fails is shown as it is")
    budget = error_budget(results, ERROR_BUDGET)
    console.print(budget.text())
    made = provenance(seed=seed, device="cpu")
    if html is not None:
        from rsverify.report.checks import checks_page

        question = f"Judged as it is built, rule {subject.scaling}, alpha {subject.alpha:g}. {budget.text()}"
        page = checks_page(
            results, about={name: (found.family, found.doc) for name, found in known.items()}, target=target, verdict=verdict,
            question=question, sentence=f"{said}.", made=made, command=as_called("--html", "--json"),
        )  # fmt: skip
        write_text(page, html, "html")
    write_json(
        {
            "schema": "rsverify/1", "complete": True, "verdict": verdict, "target": target,
            "provenance": to_json(made), "ran": count(results), "checks": to_json(results),
            "error_budget": {**to_json(budget), "rate": budget.rate}, **({"known_failures": unlisted} if unlisted else {}),
        },
        json,
    )  # fmt: skip
    return code


def _plain(text: str) -> str:
    """Text in which brackets are brackets, not the console's markup."""
    from rich.markup import escape

    return escape(text)
