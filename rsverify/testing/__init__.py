"""For tests: Hypothesis strategies, assertions in the theory's words, every check as a test, wrong adapters to test tests with.

Everything is loaded when first used: `import rsverify.testing` needs neither hypothesis nor torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_ROOMS = ("assertions", "mutants", "strategies")


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return import_module(f"rsverify.testing.{name}")
    if name == "parametrize_with_checks":
        return import_module("rsverify.testing.parametrize").parametrize_with_checks
    raise AttributeError(f"module 'rsverify.testing' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *_ROOMS, "parametrize_with_checks"]
