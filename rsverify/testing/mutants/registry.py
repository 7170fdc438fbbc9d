"""A wrong adapter with its cause, its source, its sound partner, and how much it changes a real model's function."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from rsverify.conformance import Subject
from rsverify.testing.mutants.reference import Kit
from rsverify.testing.mutants.scenarios import Scenario, effect

FAMILIES = ("structure", "scaling", "merging", "persistence", "stability")


@dataclass(frozen=True)
class Mutant:
    """A wrong adapter.

    Args: `cause` is what its author did wrong, in one sentence; `hidden_by` the setting in which nobody notices; `source` the
        address of a thread about a bug of the kind, or where else it was seen; `when` the use that shows it; `pieces` the pieces
        of the sound partner's kit `of` that it replaces.
    """

    name: str
    family: str
    cause: str
    source: str
    hidden_by: str
    wrong: Subject
    sound: Subject
    when: Scenario
    of: Kit
    pieces: tuple[str, ...]

    def changed(self) -> float:
        """Relative change of the pretrained base's logits against the sound partner, in the use that shows it; inf where it raises."""
        return effect(self.wrong, self.sound, self.when)


_registered: dict[str, Mutant] = {}


def mutant(
    name: str, cause: str, *, source: str, of: Kit, when: Scenario, hidden_by: str = "", init: str | None = None, **pieces: Any
) -> None:
    """Declare a mutant: the kit `of` with some pieces replaced. Its family is the file it stands in."""
    family = _caller()
    wrong = of.but(**pieces).subject()
    sound = of.subject()
    if init is not None:
        wrong, sound = replace(wrong, init=init), replace(sound, init=init)
    if name in _registered:
        raise ValueError(f"two mutants are called {name!r}")
    _registered[name] = Mutant(name, family, cause, source, hidden_by, wrong, sound, when, of, tuple(pieces))


def _caller() -> str:
    import sys

    return sys._getframe(2).f_globals["__name__"].rpartition(".")[2]


@cache
def _load() -> None:
    for family in FAMILIES:
        importlib.import_module(f"rsverify.testing.mutants.{family}")


def mutants() -> dict[str, Mutant]:
    """Every mutant by name, family by family."""
    _load()
    return {name: wrong for family in FAMILIES for name, wrong in _registered.items() if wrong.family == family}
