"""A lemma as it is read: statement, assumptions, uses, source, numbered steps, remarks; and what running its steps found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rsverify.proving.checks import Check, Finding, ProofError, Status

WORST: tuple[Status, ...] = ("refuted", "undecided", "skipped", "proved", "cited")
"""A lemma is what the worst of its steps is; a citation beside proved steps leaves it proved, with "cited" among its scopes."""


HOLDS: tuple[Status, ...] = ("proved", "cited")


@dataclass(frozen=True)
class Step:
    """One step of a proof: why, in words, and the statement that a checker decides.

    `name` is what other lemmas take its formula by; a step without a name is nobody's but its lemma's.
    """

    why: str
    check: Check
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class Lemma:
    """A statement with its proof.

    Args:
        name: how `rsverify prove` and other lemmas call it.
        statement, assumptions: in words and ASCII formulas.
        uses: names of the lemmas that the steps lean on: those whose formulas the file takes, no more and no fewer.
        source: where it comes from, with what of it was opened.
        steps: numbered in this order; every one but a citation has corrupted twins.
        remarks: where it fails, and what it may be confused with.
    """

    name: str
    statement: str
    assumptions: tuple[str, ...]
    uses: tuple[str, ...]
    source: str
    steps: tuple[Step, ...]
    remarks: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.steps:
            raise ProofError(f"lemma {self.name!r} has no steps")
        for number, step in enumerate(self.steps, start=1):
            if step.check.scope != "cited" and not step.check.twins():
                raise ProofError(
                    f"step {number} of lemma {self.name!r} has no corrupted twin: nothing shows that its checker could refuse it"
                )
        names = [step.name for step in self.steps if step.name]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ProofError(f"two steps of lemma {self.name!r} are named {', '.join(sorted(twice))}")


@dataclass(frozen=True)
class LemmaResult:
    """What running a lemma gave, step by step, and the lemmas that it leans on and that do not hold."""

    lemma: Lemma
    findings: tuple[Finding, ...]
    leans_on: tuple[tuple[str, Status], ...] = ()

    @property
    def status(self) -> Status:
        """The worst of its steps and of what it leans on: a lemma that uses a refuted one is refuted."""
        statuses = {*(finding.status for finding in self.findings), *(status for _, status in self.leans_on)}
        return next(status for status in WORST if status in statuses)

    @property
    def scopes(self) -> tuple[str, ...]:
        """For which ranks its steps speak, each once."""
        return tuple(dict.fromkeys(step.check.scope for step in self.lemma.steps))


def prove(lemma: Lemma, used: Mapping[str, LemmaResult] | None = None) -> LemmaResult:
    """Run every step; a step that cannot run is skipped or undecided, never proved.

    Args: `used` are the results of the lemmas that it uses.
    """
    leans_on: list[tuple[str, Status]] = []
    for name in lemma.uses:
        if used and name in used and used[name].status not in HOLDS:
            leans_on.append((name, used[name].status))
    return LemmaResult(lemma, tuple(step.check.run() for step in lemma.steps), tuple(leans_on))


def lines(result: LemmaResult, *, twins: bool = False) -> list[str]:
    """A lemma and what was found, as one reads it; with `twins`, also how each corrupted step is refused."""
    lemma = result.lemma
    shown = [f"{lemma.name}: {result.status} ({', '.join(result.scopes)})", f"  {lemma.statement}"]
    shown += [f"  given: {assumption}" for assumption in lemma.assumptions]
    if lemma.uses:
        shown.append(f"  uses:  {', '.join(lemma.uses)}")
    shown += [f"  leans on {name}, which is {status}" for name, status in result.leans_on]
    shown.append(f"  from:  {lemma.source}")
    for number, (step, finding) in enumerate(zip(lemma.steps, result.findings, strict=True), start=1):
        shown.append(f"  {number}. {step.why}")
        shown.append(f"     {step.check.text()}")
        shown.append(
            f"     {finding.status}, {step.check.scope}, by {step.check.checker}{f' ({finding.detail})' if finding.detail else ''}"
        )
        if finding.counterexample:
            shown.append(f"     counter-example: {finding.counterexample}")
        for twin in step.check.twins() if twins else ():
            finding = twin.check.run()
            shown.append(f"     corrupted {twin.corruption}: {twin.check.text()}")
            shown.append(f"       {finding.status}{f': {finding.counterexample}' if finding.counterexample else ''}")
    shown += [f"  remark: {remark}" for remark in lemma.remarks]
    return shown


def exit_code(results: Sequence[LemmaResult]) -> int:
    """0 = every step is proved or cited, 1 = a step is refuted, 3 = a step was skipped or is undecided."""
    statuses = {result.status for result in results}
    return 1 if "refuted" in statuses else 3 if statuses & {"skipped", "undecided"} else 0
