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
        agreement: of the rows of two witnesses or more; witnesses: the most that speak of one of its rows.
        remark: what must be known beside the power of r.
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
    witnesses: int
    sentence: str
    remark: str = ""


@dataclass(frozen=True)
class Plain:
    """Whether 1/sqrt(r) is right for a variant under an optimizer, in words a user can act on.

    Args:
        word: `yes`; `no`; `depends` where the regimes differ; `open` where a row that decides is not settled.
        instead: the rule to use, by regime where they differ.
        why: how far one step moves the output, and what 1/sqrt(r) makes of it.
    """

    variant: str
    optimizer: str
    word: Literal["yes", "no", "depends", "open"]
    instead: str
    why: str


@dataclass(frozen=True)
class Atlas:
    """The whole table. `flags` are comparisons of rules that differ in scale at the reference rank."""

    verdict: Outcome
    complete: bool
    sentence: str
    entries: tuple[Entry, ...]
    answers: tuple[Answer, ...]
    plain: tuple[Plain, ...]
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
