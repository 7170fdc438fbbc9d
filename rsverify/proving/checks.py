"""What a step of a proof is checked by: a statement as data, a run that finds it proved or refuted, and corrupted twins of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal

from rsverify.errors import RsverifyError

Status = Literal["proved", "refuted", "undecided", "skipped", "cited"]
Corruption = Literal["coefficient", "sign", "exponent"]


class ProofError(RsverifyError, ValueError):
    """A step that does not type: sizes that do not fit, a moment that nobody told, a function that no checker knows."""


@dataclass(frozen=True)
class Finding:
    """What a checker answers.

    Args: `counterexample` is where a refuted statement fails, in words with numbers; `detail` says what was done, or why it was not.
    """

    status: Status
    counterexample: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Twin:
    """A statement with one thing changed: it still types, and its checker must refuse it."""

    corruption: Corruption
    check: Check


class Check(ABC):
    """A statement with the checker that decides it.

    `checker` names the checker; `scope` says for which ranks the statement is decided: "all r", "r <= R", "limit" or "cited".
    """

    @property
    @abstractmethod
    def checker(self) -> str: ...

    @property
    @abstractmethod
    def scope(self) -> str: ...

    @property
    def claimed(self) -> Any:
        """The formula that the statement establishes, as an object that other lemmas take."""
        raise ProofError(f"a step checked by {self.checker} establishes no formula that another lemma could take")

    def claiming(self, claim: Any) -> Check:
        """The same statement with another formula claimed."""
        raise ProofError(f"a step checked by {self.checker} claims no formula, got {claim}")

    @abstractmethod
    def text(self) -> str:
        """The statement in one or a few lines of ASCII."""

    @abstractmethod
    def run(self) -> Finding:
        """Decide the statement."""

    @abstractmethod
    def twins(self) -> tuple[Twin, ...]:
        """Corrupted statements of the same kind; none for a citation, which nothing decides."""


@dataclass(frozen=True)
class Cited(Check):
    """A step taken from somebody else's text: nothing runs.

    Args: `seen` says whether the text was opened when this was written.
    """

    statement: str
    source: str
    seen: bool

    @property
    def checker(self) -> str:
        return "citation"

    @property
    def scope(self) -> str:
        return "cited"

    def text(self) -> str:
        return self.statement

    def run(self) -> Finding:
        return Finding("cited", detail=f"{self.source}{'' if self.seen else ' (not seen)'}")

    def twins(self) -> tuple[Twin, ...]:
        return ()
