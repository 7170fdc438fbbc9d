"""The answers of the suite on many implementations as one HTML file: verdict first, what nobody listed, a line for each target."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rsverify.records import CheckResult, Outcome, Provenance
from rsverify.report.checks import KEY, MARKS
from rsverify.report.words import OUTCOME_WORDS
from rsverify.report.writing import how_it_was_made, rendered

WORDS = {**KEY, "xfailed": "failed as listed", "xpassed": "listed as failing, and did not", "inconclusive": "left open"}
"""Headings: what a list of expected failures makes of an answer."""

Answers = Sequence[tuple[str, Sequence[CheckResult]]]


def page_of_many(
    answers: Answers, *, unjudged: Sequence[tuple[str, str]], target: str, question: str, verdict: Outcome, sentence: str,
    made: Provenance, command: str, repeat: Callable[[str, str], str],
) -> str:  # fmt: skip
    """The HTML text: no script, no network, readable on a phone and in print.

    Args: answers gives each target's results, unjudged the reason why others have none; repeat the command of a target's check.
    """
    shown = [status for status in MARKS if any(result.status == status for _, results in answers for result in results)]
    told = [(f"What {WORDS[s]}" if s == "failed" else WORDS[s].capitalize(), _kind(s), _groups(answers, s, repeat)) for s in shown]
    by_status = dict(zip(shown, told, strict=True))
    return rendered(
        "checks_of_many.html.jinja",
        target=target, verdict=verdict, outcome=OUTCOME_WORDS[verdict], sentence=sentence, question=question, unjudged=unjudged,
        urgent=[by_status[status] for status in ("failed", "inconclusive", "xpassed") if status in by_status],
        listed=[by_status[status] for status in ("xfailed",) if status in by_status],
        heads=[(MARKS[status], WORDS[status]) for status in shown], key=", ".join(f"{MARKS[status]} {WORDS[status]}" for status in shown),
        rows=[
            {"target": name, "counts": [(_kind(s), MARKS[s], sum(result.status == s for result in results)) for s in shown]}
            for name, results in answers
        ],
        how=how_it_was_made(made), command=command,
    )  # fmt: skip


def _kind(status: str) -> str:
    """The style of an answer: the page has an outcome called inconclusive with a colour of its own."""
    return "unsettled" if status == "inconclusive" else status


def _groups(answers: Answers, status: str, repeat: Callable[[str, str], str]) -> list[tuple[str, list[dict[str, str]]]]:
    """The results of one answer by target, those without any left out."""
    found = [(name, [result for result in results if result.status == status]) for name, results in answers]
    return [
        (name, [{"name": r.name, "reason": r.reason or "no reason was given", "repeat": repeat(name, r.name)} for r in results])
        for name, results in found
        if results
    ]
