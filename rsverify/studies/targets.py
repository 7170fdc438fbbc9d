"""What the conformance suite judges of a target: the Subject that it brings, or one made of its declaration or factory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rsverify.conformance.declared import declared_subject
from rsverify.conformance.subject import Subject
from rsverify.definitions.registry import adapters
from rsverify.definitions.rules import ALPHA, ScalingRule
from rsverify.definitions.targets import CONFIG, as_target
from rsverify.errors import InputError

Rule = ScalingRule | str | Callable[[int, float], float]


def is_peft(text: str) -> bool:
    """Whether a text names a method of PEFT."""
    return text not in adapters() and (text.startswith("peft:") or text.endswith(CONFIG) or (Path(text) / CONFIG).is_file())


def subject_of(thing: Any, *, rule: Rule | None = None, alpha: float | None = None) -> Subject:
    """The subject that a target is.

    Args: rule and alpha are those of a declaration; a module brings its own.
    Raises: InputError for what is no target, or a rule or alpha given to a module.
    """
    target = as_target(thing)
    if target.build is None:
        return declared_subject(target.derivable, rule, alpha=ALPHA if alpha is None else alpha)
    if rule is not None or alpha is not None:
        raise InputError(f"--rule and --alpha belong to built-in adapters; {target.name} brings its own")
    return Subject(target.build) if target.subject is None else target.subject()
