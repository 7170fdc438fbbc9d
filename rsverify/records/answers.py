"""What the judge and the checks answer, and how a result was made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from rsverify.records.claims import Claim
from rsverify.records.witnesses import Estimate, Measurement, Prediction

Stability = Literal["stable", "collapses", "explodes", "inconclusive", "zero"]
Agreement = Literal["confirmed", "refuted", "inconclusive"]
Outcome = Literal["holds", "does_not_hold", "inconclusive"]
CheckStatus = Literal["passed", "failed", "xfailed", "xpassed", "skipped", "inconclusive"]
EXIT_CODES: dict[Outcome, int] = {"holds": 0, "does_not_hold": 1, "inconclusive": 3}
OUTCOMES: dict[int, Outcome] = {code: outcome for outcome, code in EXIT_CODES.items()}
"""The outcome that an exit code stands for."""


@dataclass(frozen=True)
class Row:
    """One line of the table: a claim, what each witness said, and the judgement."""

    claim: Claim
    headline: bool
    predicted: Prediction | None
    estimated: Estimate | None
    measured: Measurement | None
    silent: Mapping[str, str]
    margin: float
    stability: Stability
    agreement: Agreement
    reason: str
    meaning: str = ""


@dataclass(frozen=True)
class Provenance:
    """How a result was made: versions, seeds, device, commit, hashes; no user, no host, no path."""

    version: str
    python: str
    packages: Mapping[str, str]
    platform: str
    device: str
    seed: int
    commit: str | None = None
    hashes: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    created: str = ""


@dataclass(frozen=True)
class Verdict:
    """The table with its outcome; `complete` is False where work was interrupted."""

    verdict: Outcome
    complete: bool
    rows: tuple[Row, ...]
    provenance: Provenance
    question: str = ""
    sentence: str = ""
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.verdict]

    @property
    def stability(self) -> tuple[Stability, ...]:
        """Stability of every row, in the order of the rows."""
        return tuple(row.stability for row in self.rows)

    @property
    def agreement(self) -> tuple[Agreement, ...]:
        """Agreement of every row, in the order of the rows."""
        return tuple(row.agreement for row in self.rows)


CHECK_FAMILIES = ("structure", "merging", "scaling", "persistence", "stability")
"""Of the conformance suite, in the order in which their checks are shown."""


@dataclass(frozen=True)
class CheckResult:
    """What one conformance check said of one subject."""

    name: str
    status: CheckStatus
    reason: str = ""
    exception: str | None = None
    seconds: float = 0.0
