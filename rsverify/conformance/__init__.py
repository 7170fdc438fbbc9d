"""Is this adapter implementation sound? One call that finds the real bugs in a user's own adapter and says them in the user's words.

The names below are loaded when first used: the list of checks, expected failures and diagnoses need no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rsverify.conformance.runner import CheckFailed, check_adapter
    from rsverify.conformance.subject import Part, Subject

__all__ = ["CheckFailed", "Part", "Subject", "check_adapter"]

_HOMES = {"CheckFailed": "runner", "check_adapter": "runner", "Part": "subject", "Subject": "subject"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'rsverify.conformance' has no attribute {name!r}")
    return getattr(import_module(f"rsverify.conformance.{_HOMES[name]}"), name)
