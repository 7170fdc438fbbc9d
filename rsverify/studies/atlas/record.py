"""What the atlas says: rows with the judge's answer, and per variant and optimizer the answer to a user's question."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from rsverify.records import EXIT_CODES, SCHEMA, Agreement, Outcome, Provenance, Row, Stability

Role = Literal["shipped", "1/sqrt(r)", "stable", "context"]
"""Why a rule stands in the atlas: a library ships it, it is the rank-stabilized one, it is the answer; or the row is context."""

HEADLINE = "update, rms, probe aligned, after 1 step, at a learning rate free of the rank"
"""The quantity whose stability the atlas speaks of."""
CONTEXT = "gradient_norm, frobenius, at init"


@dataclass(frozen=True)
class Entry:
    """One number of the atlas with its witnesses, and the scale at the reference rank."""

    variant: str
    library: str
    roles: tuple[Role, ...]
    row: Row
    gamma_at_reference: float


@dataclass(frozen=True)
class Answer:
    """Which rule is stable for a variant under an optimizer, and what to do about the shipped one.

    Args:
        terms: (a, b, c) of gamma**a * lr**c * r**b, derived; measured_terms: (a, b) read off two simulated rules.
        stable: p of the stable gamma ~ r**-p; stable_from names the witnesses that say so.
        regime: in which ranks grow (`rank`: beyond the widths; `width`: far below them).
        other_regime: p of the stable rule in the other regime where it is derivable, else None.
        lr_exponent: q of lr ~ r**q that makes the shipped rule stable.
    """

    variant: str
    library: str
    init: str
    optimizer: str
    regime: str
    terms: tuple[tuple[Fraction, Fraction, Fraction], ...]
    measured_terms: tuple[float, float] | None
    stable: Fraction | None
    stable_rule: str
    stable_from: tuple[str, ...]
    other_regime: Fraction | None
    shipped: str
    shipped_stability: Stability
    root: str
    root_stability: Stability
    lr_exponent: Fraction | None
    agreement: Agreement
    sentence: str


@dataclass(frozen=True)
class Atlas:
    """The whole table. `flags` are comparisons of rules that differ in scale at the reference rank."""

    verdict: Outcome
    complete: bool
    sentence: str
    entries: tuple[Entry, ...]
    answers: tuple[Answer, ...]
    flags: tuple[str, ...]
    reference_rank: int
    matched: bool
    margin: float
    error_budget: float
    statements: int
    provenance: Provenance
    quantity: str = HEADLINE
    context: str = CONTEXT
    schema: str = SCHEMA

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.verdict]
