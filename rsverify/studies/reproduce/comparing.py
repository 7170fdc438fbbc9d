"""A run against an earlier one on other seeds, question by question: what came again, what did not, and whether that was foreseen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from rsverify.errors import InputError
from rsverify.files.reading import read_object
from rsverify.studies.reproduce.judging import Answer, Part, conclude
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
    earlier: Answer
    now: Answer
    leaning: tuple[Answer, Answer]
    again: tuple[float | None, float | None]

    @property
    def outcome(self) -> Outcome:
        if self.earlier == self.now:
            return "same"
        return "contradicted" if "open" not in (self.earlier, self.now) else "settled in one"

    @property
    def again_here(self) -> bool:
        """Whether all repeats of this run say what the earlier one settled."""
        return self.earlier != "open" and self.earlier in (self.leaning[1], self.now)

    @property
    def returned(self) -> bool:
        """Whether what one run settled is at least what all repeats of the other say."""
        settled = self.earlier if self.earlier != "open" else self.now
        return set(self.leaning) == {settled}


@dataclass(frozen=True)
class Comparison:
    """Every question of both runs.

    Args: findings are each figure's verdict in both runs, (earlier, now); repeated is now's as a repeat of the earlier run: what that one
        settled has come again where all repeats of this run say so, whether or not this run alone would settle it.
    """

    seeds: tuple[int, int]
    questions: tuple[Question, ...]
    findings: Mapping[str, tuple[str, str]]
    repeated: Mapping[str, str]

    @property
    def changed(self) -> tuple[Question, ...]:
        return tuple(question for question in self.questions if question.outcome != "same")

    def sentence(self) -> str:
        """What came again, in words."""
        settled = [q for q in self.questions if q.earlier != "open"]
        came = sum(q.again_here for q in settled)
        opened = sum(q.earlier == "open" and q.now != "open" for q in self.questions)
        against = sum(q.outcome == "contradicted" for q in self.questions)
        said = (
            f"Of {len(self.questions)} questions the earlier run settled {len(settled)}; all repeats of this run say the same to {came} of"
            f" them, {against or 'none'} {_are(against or 2)} contradicted; {opened} that it had left open {_are(opened)} settled here."
        )
        lost = {name: (earlier, self.repeated[name]) for name, (earlier, _) in self.findings.items() if self.repeated[name] != earlier}
        said += f" So {len(self.findings) - len(lost)} of its {len(self.findings)} verdicts come again{_told(lost)}."
        alone = {name: pair for name, pair in self.findings.items() if pair[0] != pair[1]}
        return said + (f" By itself this run would give {len(self.findings) - len(alone)} of them{_told(alone)}." if alone != lost else "")

    def to_dict(self) -> dict[str, Any]:
        """For the record."""
        questions = [{**asdict(question), "outcome": question.outcome, "returned": question.returned} for question in self.questions]
        return {
            "seeds": list(self.seeds),
            "sentence": self.sentence(),
            "findings": dict(self.findings),
            "repeated": dict(self.repeated),
            "questions": questions,
        }


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _told(changed: Mapping[str, tuple[str, str]]) -> str:
    """The verdicts that differ, in brackets."""
    if not changed:
        return ""
    return " (not: " + "; ".join(f"{name}: {earlier}, now {now}" for name, (earlier, now) in changed.items()) + ")"


def read_record(path: Path, plan: Plan) -> dict[str, Any]:
    """An earlier run's reproduce.json, for a run of this plan to be compared with.

    Raises: InputError for a file that is no such record, for one of another plan, naming the difference, and for one on the same seeds.
    """
    record = read_object(path, name="against", expected="the reproduce.json of an earlier run")
    settings = provenance.get("settings") if isinstance(provenance := record.get("provenance"), dict) else None
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
    questions: list[Question] = []
    findings, repeated = {}, {}
    for figure in now["figures"]:
        if figure["name"] not in before:
            continue
        findings[figure["name"]] = (before[figure["name"]]["answer"], figure["answer"])
        asked = {part["says"]: part for part in before[figure["name"]]["parts"]}
        parts = []
        for part in figure["parts"]:
            answer: Answer = part["answer"]
            if (first := asked.get(part["says"])) is not None:
                leaning, again = (first["leaning"], part["leaning"]), (first["again"], part["again"])
                question = Question(figure["name"], part["says"], first["answer"], answer, leaning, again)
                questions.append(question)
                answer = question.earlier if question.again_here else answer
            parts.append(Part(part["says"], answer, deciding=part["deciding"]))
        repeated[figure["name"]] = conclude(parts).answer
    seeds = (earlier["provenance"]["settings"]["seed"], now["provenance"]["settings"]["seed"])
    return Comparison(seeds, tuple(questions), findings, repeated)
