"""The PEFT that is installed: its tuners, their config classes, and what to do where it is missing."""

from __future__ import annotations

import dataclasses
import importlib
from functools import cache
from typing import Any

from rsverify.errors import InputError


def library() -> Any:
    """The module `peft`.

    Raises: InputError with the extra to install where it is missing.
    """
    try:
        return importlib.import_module("peft")
    except ImportError as error:
        raise InputError(f"PEFT cannot be imported ({error}); pip install 'rsverify[peft]'") from None


@cache
def config_classes() -> dict[str, Any]:
    """PEFT's own registry: every tuner's name in small letters, and its config class."""
    library()
    mapping = importlib.import_module("peft.mapping").PEFT_TYPE_TO_CONFIG_MAPPING
    return {str(getattr(kind, "value", kind)).lower(): made for kind, made in mapping.items()}


def config_fields(name: str) -> dict[str, Any]:
    """The fields of a tuner's config, with their defaults."""
    found = {}
    for field in dataclasses.fields(config_classes()[name]):
        if field.init:
            if field.default is not dataclasses.MISSING:
                found[field.name] = field.default
            else:
                found[field.name] = None if field.default_factory is dataclasses.MISSING else field.default_factory()
    return found
