"""The answers of the conformance suite as one HTML file: verdict first, a cell for each check, what failed, then every check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rsverify.records import CheckResult, Outcome, Provenance
from rsverify.report.words import OUTCOME_WORDS
from rsverify.report.writing import how_it_was_made, rendered

MARKS = {"passed": "✓", "failed": "✗", "xfailed": "!", "xpassed": "+", "inconclusive": "?", "skipped": "–"}
"""A sign for each answer, so that the picture is read without its colours."""

KEY = {
    "passed": "passed", "failed": "failed", "xfailed": "failed as expected", "xpassed": "expected to fail, and did not",
    "inconclusive": "inconclusive", "skipped": "skipped",
}  # fmt: skip


def checks_page(
    results: Sequence[CheckResult], *, about: Mapping[str, tuple[str, str]], target: str, question: str, verdict: Outcome, sentence: str,
    made: Provenance, command: str,
) -> str:  # fmt: skip
    """The HTML text: no script, no network, readable on a phone and in print.

    Args: about gives family and one line of each check by its name; question says what was judged, sentence what came of it.
    """
    families: dict[str, list[dict[str, str]]] = {}
    for result in results:
        family, doc = about[result.name]
        # The page has an outcome called inconclusive with a colour of its own.
        kind = "unsettled" if result.status == "inconclusive" else result.status
        families.setdefault(family, []).append(
            {
                "name": result.name, "short": result.name.removeprefix("check_"), "status": result.status, "kind": kind, "doc": doc,
                "mark": MARKS[result.status], "reason": result.reason,
            }
        )  # fmt: skip
    every = [cell for cells in families.values() for cell in cells]
    told = [
        (title, found)
        for status, title in (
            ("failed", "What failed"),
            ("inconclusive", "What is left open"),
            ("xpassed", "Expected to fail, and did not"),
        )
        if (found := [cell for cell in every if cell["status"] == status])
    ]
    present = dict.fromkeys(cell["status"] for cell in every)
    return rendered(
        "checks.html.jinja",
        target=target, verdict=verdict, outcome=OUTCOME_WORDS[verdict], sentence=sentence, question=question, told=told,
        families=list(families.items()), key=", ".join(f"{MARKS[status]} {KEY[status]}" for status in MARKS if status in present),
        how=how_it_was_made(made), command=command,
    )  # fmt: skip
