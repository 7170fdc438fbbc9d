"""For tests: Hypothesis strategies, assertions in the theory's words, wrong adapters to test tests with.

Everything is loaded when first used: `import rsverify.testing` needs neither hypothesis nor torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_ROOMS = ("assertions", "strategies")


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return import_module(f"rsverify.testing.{name}")
    raise AttributeError(f"module 'rsverify.testing' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *_ROOMS]
