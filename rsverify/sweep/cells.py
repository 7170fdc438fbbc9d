"""A cell: a function's name, a configuration, a seed. It can be sent anywhere and gives the same numbers there."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from rsverify.errors import InputError


@dataclass(frozen=True)
class Cell:
    """One piece of a sweep: `function(configuration, seed)` gives its result.

    Args:
        function: "package.module:name", importable wherever the cell runs.
        configuration: plain JSON data; what the function needs and nothing else, since it makes the cell's key.
        seed: of every draw inside.
    Raises: InputError where the name has no such form or the configuration is not JSON.
    """

    function: str
    configuration: Mapping[str, Any]
    seed: int = 0

    def __post_init__(self) -> None:
        module, colon, name = self.function.partition(":")
        if not (colon and name.isidentifier() and all(part.isidentifier() for part in module.split("."))):
            raise InputError(f"function={self.function!r}; expected package.module:name")
        _ = self.key

    @cached_property
    def text(self) -> str:
        """The cell as canonical JSON."""
        try:
            return json.dumps([self.function, dict(self.configuration), self.seed], sort_keys=True, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InputError(f"configuration={self.configuration!r} is not plain JSON data ({error})") from None

    @cached_property
    def key(self) -> str:
        """A hash of function, configuration and seed: two cells of one key are one cell."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:32]


def load_function(name: str) -> Callable[[Mapping[str, Any], int], Any]:
    """The function of that name.

    Raises: InputError where it cannot be imported or is no function.
    """
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise InputError(f"function={name!r} cannot be imported here ({error}); every worker needs the same packages") from None
    if not callable(found):
        raise InputError(f"function={name!r} is {type(found).__name__}, not a function")
    return found


def perform(function: str, configuration: Mapping[str, Any], seed: int) -> tuple[str, float]:
    """The result of a cell as JSON text, and the seconds it took; floats pass through JSON unchanged.

    Raises: InputError where the result is not JSON, e.g. holds NaN.
    """
    call = load_function(function)
    begun = time.monotonic()
    result = call(configuration, seed)
    try:
        return json.dumps(result, allow_nan=False), time.monotonic() - begun
    except (TypeError, ValueError) as error:
        raise InputError(f"function={function!r} returned what is not plain JSON data ({error})") from None


def one_thread() -> None:
    """For a process that has just started: its linear algebra takes one thread, since there are as many workers as cores."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
