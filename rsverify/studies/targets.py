"""What the target of a check is: a built-in name, `package.module:object`, and whatever else has a resolver here."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rsverify.conformance.runner import as_subject
from rsverify.conformance.subject import Subject
from rsverify.definitions.registry import Declared, adapters
from rsverify.errors import InputError, suggest

Resolver = Callable[[str], Subject | Declared | None]
"""From a target's text to what is checked; None where the text is not of its kind."""


def built_in(target: str) -> Declared | None:
    """A declared adapter by name."""
    return adapters().get(target)


def python_object(target: str) -> Subject | Declared | None:
    """`package.module:object`, imported from the current folder or the installed packages: a Subject, an Adapter or a build function."""
    if not _names_object(target):
        return None
    value = import_object(target)
    try:
        return as_subject(value)
    except InputError as error:
        raise InputError(f"target={target!r}: {error}") from None


def _names_object(target: str) -> bool:
    module_name, colon, path = target.partition(":")
    return bool(colon and path) and all(part.isidentifier() for part in [*module_name.split("."), *path.split(".")])


def import_object(target: str, *, argument: str = "target") -> Any:
    """What `package.module:object` names, imported from the current folder or the installed packages.

    Raises: InputError for another form, a module or name that is not there, a module that cannot be imported.
    """
    if not _names_object(target):
        raise InputError(f"{argument}={target!r}; expected package.module:object")
    module_name, _, path = target.partition(":")
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        module: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        where = "it is looked for in this folder and among what is installed"
        raise InputError(f"{argument}={target!r}: no module is called {missing!r}; {where}") from None
    except (Exception, SystemExit) as error:
        raise InputError(f"{argument}={target!r}: importing {module_name} raised {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(here)
    value = module
    for part in path.split("."):
        if not hasattr(value, part):
            public = [name for name in dir(value) if not name.startswith("_")]
            raise InputError(f"{argument}={target!r}: {module_name} has no {part!r}{suggest(part, public)}")
        value = getattr(value, part)
    return value


def is_peft(target: str) -> bool:
    """Whether a target is of the PEFT kind."""
    named = target.startswith("peft:") or target.endswith("adapter_config.json")
    return target not in adapters() and (named or (Path(target) / "adapter_config.json").is_file())


def peft_method(target: str) -> Subject | None:
    """`peft:METHOD?key=value&...`, or a path to an adapter_config.json of the PEFT format, or to a folder that holds one."""
    if not is_peft(target):
        return None
    from rsverify.interop.peft import subject_from_peft

    return subject_from_peft(target)


RESOLVERS: list[Resolver] = [built_in, peft_method, python_object]
"""In the order in which they are asked: the one place where further kinds of targets are added."""


def resolve(target: str) -> Subject | Declared:
    """What a target's text stands for.

    Raises: InputError where no resolver knows its kind, with what would be understood.
    """
    for resolver in RESOLVERS:
        found = resolver(target)
        if found is not None:
            return found
    kinds = "a built-in adapter, peft:METHOD, an adapter_config.json nor package.module:object"
    raise InputError(f"target={target!r} is neither {kinds}{suggest(target, adapters())}")
