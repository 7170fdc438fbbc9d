"""A run against an earlier one on other seeds, question by question: what came again, what did not, and whether that was foreseen."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from rsverify.errors import InputError
from rsverify.studies.reproduce.plan import Plan

Outcome = Literal["same", "settled in one", "contradicted"]


@dataclass(frozen=True)
class Question:
    """One question in both runs.

    Args: earlier, now are the answers; leaning what all repeats of each run say, settled or not; again the probability with which each
        run expected its own answer to return, None where its repeats disagree.
    """

    figure: str
    says: str
    earlier: str
    now: str
    leaning: tuple[str, str]
    again: tuple[float | None, float | None]

    @property
    def outcome(self) -> Outcome:
        if self.earlier == self.now:
            return "same"
        return "contradicted" if "open" not in (self.earlier, self.now) else "settled in one"

    @property
    def returned(self) -> bool:
        """Whether what one run settled is at least what all repeats of the other say."""
        settled = self.earlier if self.earlier != "open" else self.now
        return set(self.leaning) == {settled}


@dataclass(frozen=True)
class Comparison:
    """Every question of both runs, and the figures whose finding changed, each with (earlier, now)."""

    seeds: tuple[int, int]
    questions: tuple[Question, ...]
    findings: Mapping[str, tuple[str, str]]

    @property
    def changed(self) -> tuple[Question, ...]:
        return tuple(question for question in self.questions if question.outcome != "same")

    def sentence(self) -> str:
        """What came again, in words."""
        counts = {outcome: sum(q.outcome == outcome for q in self.questions) for outcome in ("same", "settled in one", "contradicted")}
        lost = sum(not q.returned for q in self.changed)
        changed = {name: pair for name, pair in self.findings.items() if pair[0] != pair[1]}
        said = f"Of {len(self.questions)} questions {counts['same']} have the same answer on fresh seeds"
        if counts["settled in one"]:
            said += f"; {counts['settled in one']} are settled in one run and open in the other"
            said += ", whose repeats all say the same" if not lost else f", in {lost} of which its repeats do not all say so"
        said += f"; {counts['contradicted'] or 'none'} {'is' if counts['contradicted'] == 1 else 'are'} contradicted."
        if not changed:
            return f"{said} All {len(self.findings)} findings are the same."
        told = "; ".join(f"{name}: {earlier}, now {now}" for name, (earlier, now) in changed.items())
        return f"{said} Of {len(self.findings)} findings {len(changed)} {'differs' if len(changed) == 1 else 'differ'} ({told})."

    def to_dict(self) -> dict[str, Any]:
        """For the record."""
        questions = [{**asdict(question), "outcome": question.outcome, "returned": question.returned} for question in self.questions]
        return {"seeds": list(self.seeds), "sentence": self.sentence(), "findings": dict(self.findings), "questions": questions}


def read_record(path: Path, plan: Plan) -> dict[str, Any]:
    """An earlier run's reproduce.json, for a run of this plan to be compared with.

    Raises: InputError for a file that is no such record, for one of another plan, naming the difference, and for one on the same seeds.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"against={str(path)!r} cannot be read ({error}); expected the reproduce.json of an earlier run") from None
    settings = record.get("provenance", {}).get("settings") if isinstance(record, dict) else None
    if not isinstance(settings, dict) or "figures" not in record:
        raise InputError(f"against={str(path)!r} is no record of `rsverify reproduce`; expected the reproduce.json of an earlier run")
    mine = plan.to_dict()
    for name in sorted(mine.keys() | settings.keys()):
        if name != "seed" and mine.get(name) != settings.get(name):
            raise InputError(
                f"against={str(path)!r} was run with {name}={settings.get(name)}, this run with {name}={mine.get(name)}: what differs may"
                " be that; run both with the same options"
            )
    if settings["seed"] == mine["seed"]:
        raise InputError(f"against={str(path)!r} was run on the same seeds (seed={mine['seed']}): it repeats nothing; give another --seed")
    return record


def compare(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> Comparison:
    """The figures that both records hold; questions are matched by their text, and one that only one run asks is left out."""
    before = {figure["name"]: figure for figure in earlier["figures"]}
    questions, findings = [], {}
    for figure in now["figures"]:
        if figure["name"] not in before:
            continue
        findings[figure["name"]] = (before[figure["name"]]["answer"], figure["answer"])
        asked = {part["says"]: part for part in before[figure["name"]]["parts"]}
        for part in figure["parts"]:
            if (first := asked.get(part["says"])) is not None:
                leaning, again = (first["leaning"], part["leaning"]), (first["again"], part["again"])
                questions.append(Question(figure["name"], part["says"], first["answer"], part["answer"], leaning, again))
    seeds = (earlier["provenance"]["settings"]["seed"], now["provenance"]["settings"]["seed"])
    return Comparison(seeds, tuple(questions), findings)
