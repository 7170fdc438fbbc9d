"""The linears of a model by name: which of them a pattern means, and the one of a name."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from rsverify.errors import InputError


def find_targets(model: nn.Module, patterns: Sequence[str]) -> tuple[str, ...]:
    """Names of the linears that the patterns mean, in the model's order: a full name, its last part, or a glob.

    Raises: InputError for a pattern that matches no linear, or for none, with the linears that exist and what a pattern may be.
    """
    linears = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if isinstance(patterns, str):  # a text is a sequence of letters, and linears are called q, k and v
        raise InputError(f"targets={patterns!r} is a text; expected a sequence of patterns, e.g. [{patterns!r}]")
    if not patterns:
        raise InputError(f"targets={patterns!r} names nothing to adapt; {_what_exists(linears)}")
    found: set[str] = set()
    for pattern in patterns:
        hits = {name for name in linears if _means(pattern, name)}
        if not hits:
            others = [name for name, _ in model.named_modules() if name and _means(pattern, name)]
            why = f"matches {others[0]!r}, which is no nn.Linear" if others else "matches no module"
            raise InputError(f"targets={pattern!r} {why}; {_what_exists(linears)}")
        found |= hits
    return tuple(name for name in linears if name in found)


def _means(pattern: str, name: str) -> bool:
    return name == pattern or name.endswith("." + pattern) or fnmatchcase(name, pattern)


def _what_exists(linears: Sequence[str]) -> str:
    """The linears of a model, and what a pattern for them looks like."""
    if not linears:
        return "this model has no nn.Linear"
    endings = list(dict.fromkeys(name.rpartition(".")[2] for name in linears))
    return (
        f"this model's linears end in: {', '.join(endings)} ({len(linears)} in all, e.g. {linears[0]}); expected a full name, its ending,"
        f" or a glob of the full name such as '*{endings[0]}' (no regular expression)"
    )


def linear_at(model: nn.Module, name: str) -> nn.Linear:
    """The linear of that name."""
    module = model.get_submodule(name)
    if not isinstance(module, nn.Linear):
        raise InputError(f"targets={name!r} is {type(module).__name__}; expected nn.Linear")
    return module
