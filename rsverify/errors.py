"""What went wrong, the likely cause, the cure: every refusal of the package, each with its numbers."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])


class RsverifyError(Exception):
    """A refusal that the user can do something about; the command line prints it alone and exits with 2."""


class InputError(RsverifyError, ValueError):
    """An argument that cannot be used: ranks, probes, devices, folders, sizes."""


class RuleError(RsverifyError, ValueError):
    """A scaling rule that does not parse, or has no usable value at a rank asked for."""


class AdapterError(RsverifyError, ValueError):
    """A declaration that does not add up: an unbound axis, a factor never used, an axis of two sizes."""


class UnknownName(RsverifyError, KeyError):
    """A name that no registry holds; the message suggests the nearest ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.kind, self.name, self.known = kind, name, sorted(known)
        super().__init__(f"{kind}={name!r} is not known{suggest(name, self.known)}")

    def __str__(self) -> str:
        return str(self.args[0])


class NotDerivable(RsverifyError):
    """The symbolic witness cannot speak, and says why; a guess is never an answer.

    `reason` is one sentence; `core` is the multilinear adapter inside that can be derived, or None; `instead` is the call that
    simulates the answer.
    """

    def __init__(self, reason: str, core: Any = None, instead: str = "") -> None:
        self.reason, self.core, self.instead = reason, core, instead
        hint = f"; its multilinear core {core.name!r} can be derived" if core is not None else ""
        simulated = f"; simulate it: {instead}" if instead else ""
        super().__init__(f"not derivable, because {reason}{hint}{simulated}")


class BudgetError(RsverifyError):
    """What was asked for costs more than the budget allows; `needed` and `allowed` are in `unit`."""

    def __init__(self, message: str, *, needed: float, allowed: float, unit: str, instead: str = "") -> None:
        self.message, self.needed, self.allowed, self.unit = message, needed, allowed, unit
        super().__init__(f"{message}; simulate it: {instead}" if instead else message)


class Diverged(RsverifyError):
    """A run that overflows: from `step` on, at `rank`, its numbers are not finite."""

    def __init__(self, rank: int, step: int, *, lr: float) -> None:
        self.rank, self.step, self.lr = rank, step, lr
        super().__init__(
            f"diverges: at rank {rank} the numbers of step {step} are not finite (lr={lr:g}). Training with a linear loss grows as "
            "exp(t) for every lr > 0; take a smaller lr, fewer steps, smaller ranks, or a rule that falls faster"
        )


class CheckpointError(RsverifyError):
    """A checkpoint whose bytes are not those that its manifest names."""


def known_arguments(function: F) -> F:
    """The function, refusing an argument that it does not have with the names nearest to it.

    Raises: InputError.
    """
    known = [name for name, p in inspect.signature(function).parameters.items() if p.kind is not p.VAR_KEYWORD]
    open_ended = any(p.kind is p.VAR_KEYWORD for p in inspect.signature(function).parameters.values())

    @functools.wraps(function)
    def checked(*args: Any, **named: Any) -> Any:
        for name in named:
            if name not in known and not open_ended:
                raise InputError(f"{function.__name__}() has no argument {name}={suggest(name, known)}")
        return function(*args, **named)

    return cast(F, checked)


def refuse_no_workers(workers: int | None) -> None:
    """Refuse a number of processes or threads below one; None stands for the usual number.

    Raises: InputError.
    """
    if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 1):
        raise InputError(f"workers={workers!r}; expected a whole number from 1, or None (no --workers) for the usual number")


def suggest(name: str, known: Iterable[str]) -> str:
    """The tail of a message about an unknown name: the nearest names, or all of them where none is near."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if near:
        return f"; did you mean {' or '.join(repr(n) for n in near)}?"
    return f"; known are {', '.join(known)}" if known else ""


def brief(value: object, limit: int = 60) -> str:
    """A value as a message shows it: its repr, cut where it is long; a huge whole number by its size."""
    if isinstance(value, int) and value.bit_length() > 400:
        return f"a number of {value.bit_length():,} bits"
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."
