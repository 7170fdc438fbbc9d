"""`rsverify prove`: the proofs, run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from rsverify.cli.options import Json, Seed, refuse_unwritable, write_json, write_text
from rsverify.cli.stages import shown


def prove(
    lemma: Annotated[str | None, Parameter(help="A lemma's name; without one all are run. A wrong one lists all.")] = None,
    /,
    *,
    index: Annotated[Path | None, Parameter(help="Write the index of all lemmas, with the graph of uses, to this file.")] = None,
    twins: Annotated[bool, Parameter(help="Show, too, how each corrupted step is refused.")] = False,
    seed: Seed = 0,
    json: Json = None,
) -> int:
    """Run the proofs: every step by its checker, with status and scope; a lemma is run with all that it uses.

    Exit code 0 = every step is proved (or cited, and then said so), 1 = a step is refuted, 3 = a step was skipped or is undecided.
    The seed is taken for uniformity; nothing is drawn.

    For example:

    - `rsverify prove`
    - `rsverify prove rank-stabilization`
    - `rsverify prove merging --twins`
    """
    from rsverify.errors import InputError
    from rsverify.proving.index import index_text
    from rsverify.proving.lemma import exit_code, lines
    from rsverify.proving.library import lemmas, prove_all
    from rsverify.records import OUTCOMES, SCHEMA

    refuse_unwritable(json)
    if index is not None and not index.resolve().parent.is_dir():
        raise InputError(f"index={str(index)!r} cannot be written: its folder does not exist")
    with shown("prove") as progress:
        results = prove_all(lemma, progress=progress)
    for result in results:
        print(*lines(result, twins=twins), "", sep="\n")
    findings = [finding.status for result in results for finding in result.findings]
    counts = ", ".join(f"{findings.count(status)} {status}" for status in dict.fromkeys(findings))
    print(f"{len(results)} lemmas, {len(findings)} steps: {counts}")
    if missing := missing_extras(results):
        print(f"Skipped steps need {' and '.join(missing)}: pip install 'rsverify[proofs]'")
    if index is not None:
        write_text(index_text(lemmas()), index, "index")
    code = exit_code(results)
    write_json(
        {
            "schema": SCHEMA,
            "complete": not {"skipped", "undecided"} & set(findings),
            "verdict": OUTCOMES[code],
            "lemmas": [_told(result) for result in results],
        },
        json,
    )
    return code


def missing_extras(results: Sequence[Any]) -> list[str]:
    """The checkers that skipped a step because their library is not installed."""
    details = {finding.detail for result in results for finding in result.findings if finding.status == "skipped"}
    return sorted({detail.partition(" is not installed")[0].split()[-1] for detail in details if " is not installed" in detail})


def _told(result: Any) -> dict[str, Any]:
    lemma = result.lemma
    return {
        "name": lemma.name, "statement": lemma.statement, "status": result.status, "scopes": list(result.scopes),
        "assumptions": list(lemma.assumptions), "uses": list(lemma.uses), "source": lemma.source, "remarks": list(lemma.remarks),
        "steps": [
            {
                "why": step.why, "statement": step.check.text(), "status": finding.status, "scope": step.check.scope,
                "checker": step.check.checker, "counterexample": finding.counterexample, "detail": finding.detail,
            }
            for step, finding in zip(lemma.steps, result.findings, strict=True)
        ],
    }  # fmt: skip
