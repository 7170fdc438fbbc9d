"""What PEFT refuses, and says so: these skip a check. Anything else that it raises is an answer to the check, not a reason to skip it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rsverify.conformance.outcomes import Skip

VERBS = {"merge": "to merge", "unmerge": "to unmerge", "add_adapter": "a second adapter", "combine": "to combine these"}


@dataclass(frozen=True)
class Refusal:
    """An operation that a method refuses: the exception's type (no subclass of it), and words of its message."""

    method: str
    operation: str
    kind: type[Exception]
    words: str


REFUSALS = (
    Refusal("lora", "merge", RuntimeError, "because the base layer has no bias"),  # a trained bias has nowhere to go
    Refusal("lily", "merge", NotImplementedError, "not supported for Lily"),
    Refusal("osf", "unmerge", NotImplementedError, "do not support unmerging"),
    Refusal("adalora", "add_adapter", ValueError, "supports only 1 trainable adapter"),
    # The shared matrices hold no larger rank than the first adapter's.
    Refusal("vera", "add_adapter", ValueError, "or greater is required"),
    Refusal("pvera", "add_adapter", ValueError, "or greater is required"),
    Refusal("randlora", "add_adapter", ValueError, "or greater is required"),
    Refusal("lora", "combine", ValueError, "must have the same r value"),
    Refusal("lora", "combine", ValueError, "should follow the same target modules type"),  # after EVA's init: docs/peft_defects, E3
)
"""All that PEFT 0.21.2 is known to refuse on one linear layer."""


def is_known(method: str, operation: str, error: Exception) -> bool:
    """Whether an exception is one of `REFUSALS`."""
    return any(
        (known.method, known.operation, known.kind) == (method, operation, type(error)) and known.words in str(error) for known in REFUSALS
    )


@contextmanager
def refusable(method: str, operation: str) -> Iterator[None]:
    """Turns a known refusal into a skipped check; every other exception goes on.

    Raises: Skip.
    """
    try:
        yield
    except Exception as error:
        if is_known(method, operation, error):
            raise Skip(f"PEFT refuses {VERBS[operation]}: {error}") from error
        raise
