"""Targets: what a user may name where a verb takes an adapter, resolved by one function for every verb.

A target is a declaration (theory derives it, simulation and training contract it), a module as it is built (the numeric witnesses
call it), or both: a library's method that is declared here too. Kinds of text that a library understands live in that library's
room; they are named here and loaded when such a text comes.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.registry import Declared, adapters
from rsverify.definitions.rules import ScalingRule
from rsverify.definitions.wrapped import WrappedAdapter
from rsverify.errors import InputError, NotDerivable, UnknownName, suggest

Build = Callable[[int, Any, float], Any]
"""build(rank, base, alpha) -> the adapted layer, on a torch.nn.Linear whose parameters it must freeze."""

LIBRARIES: dict[str, str] = {"peft:": "rsverify.interop.peft.named:target_from_text"}
"""Prefixes of texts that a library's room reads, and the function there that makes a target of them."""

CONFIG = "adapter_config.json"
CONFIG_READER = "rsverify.interop.peft.named:target_from_config"
"""Who reads an adapter_config.json, or a folder that holds one."""

AS_BUILT = "as-built"
"""The name of the rule of a module of which nobody says which rule it follows."""


def as_built(r: float, alpha: float) -> float:
    """The rule of a module that applies its own, and of which nothing says which: not known, so that nothing is divided by it."""
    return 1.0


as_built.__name__ = AS_BUILT


@runtime_checkable
class Built(Protocol):
    """What is known of an implementation: `rv.Subject` is one."""

    build: Build
    alpha: float

    @property
    def scaling(self) -> ScalingRule: ...

    @property
    def declared(self) -> Declared | None: ...

    @property
    def capabilities(self) -> frozenset[str]: ...


@dataclass(frozen=True)
class Target:
    """What a user named, as the witnesses take it.

    Args:
        name: how tables and messages call it.
        declared: the declaration that theory speaks of; None where nothing says which one a module follows.
        build: builds the module that is judged as it is, under its own rule; None where a declaration is all there is.
        rule: the rule that it ships or claims to follow; None where nothing says so.
        alpha, rank: as its settings say; None where they leave them open.
        subject: makes the `rv.Subject` with all that the implementation can do; None where `build` or the declaration is all.
        several_rules: whether it can be had under any rule: a declaration can, a module applies its own.
    """

    name: str
    declared: Declared | None = None
    build: Build | None = None
    rule: str | ScalingRule | None = None
    alpha: float | None = None
    rank: int | None = None
    subject: Callable[[], Any] | None = None

    @property
    def several_rules(self) -> bool:
        return self.build is None

    @property
    def adapter(self) -> Adapter:
        """The multilinear declaration.

        Raises: NotDerivable where there is none, with the reason.
        """
        known = self.derivable
        if isinstance(known, WrappedAdapter):
            raise NotDerivable(f"of adapter {known.name!r}, {known.reason}", known.core)
        return known

    @property
    def derivable(self) -> Declared:
        """The declaration, multilinear or not.

        Raises: NotDerivable for a module without one, with the verbs that take it.
        """
        if self.declared is None:
            raise NotDerivable(
                f"{self.name} is a module as it is built, and nothing says which declaration it follows; give it an init= in rv.Subject, or"
                f" `rsverify verify --adapter {self.name} --declared NAME`; `rsverify estimate {self.name}` simulates it"
            )
        return self.declared


def as_target(thing: Any) -> Target:
    """What a name, an Adapter, a Subject, a factory, `package.module:object`, `peft:METHOD?...` or an adapter_config.json stands for.

    Raises: UnknownName for a single word that no registry holds; InputError for anything else that is none of these, with the kinds.
    """
    if isinstance(thing, Target):
        return thing
    if isinstance(thing, Declared):
        return Target(thing.name, thing, rule=thing.rule)
    if isinstance(thing, str | Path):
        return _from_text(str(thing))
    if isinstance(thing, Built):
        return _from_subject(thing, _called(thing.build))
    if hasattr(thing, "peft_type"):
        return _loaded(CONFIG_READER)(thing)
    if callable(thing) and (isinstance(thing, type) or not hasattr(thing, "named_parameters")):
        return Target(_called(thing), build=_factory(thing))
    if hasattr(thing, "named_parameters"):
        raise InputError(
            f"target is a {type(thing).__name__} module that stands already; expected a function build(rank, base, alpha) that makes one at"
            " any rank: an exponent needs several"
        )
    raise InputError(f"target={thing!r} is {type(thing).__name__}; expected {KINDS}")


KINDS = (
    "the name of an adapter, an rv.Adapter, an rv.Subject, a function build(rank, base, alpha), package.module:object,"
    " peft:METHOD?key=value&..., or an adapter_config.json"
)


def _from_text(text: str) -> Target:
    known = adapters()
    if text in known:
        return as_target(known[text])
    for prefix, reader in LIBRARIES.items():
        if text.startswith(prefix):
            return _loaded(reader)(text)
    if text.endswith(CONFIG) or (Path(text) / CONFIG).is_file():
        return replace(_loaded(CONFIG_READER)(text), name=text)
    if names_object(text):
        value = import_object(text)
        try:
            return replace(as_target(value), name=text)
        except InputError as error:
            raise InputError(f"target={text!r}: {error}") from None
    if text.isidentifier() or all(part.isalnum() for part in text.split("-")):
        if (Path(f"{text}.py")).is_file():
            raise InputError(f"target={text!r}: {text}.py is here; name the object in it, {text}:OBJECT")
        raise UnknownName("adapter", text, known)
    raise InputError(f"target={text!r} is no target; expected {KINDS}{suggest(text, known)}")


def _from_subject(subject: Built, name: str) -> Target:
    return Target(name, subject.declared, subject.build, rule=subject.scaling, alpha=subject.alpha, subject=lambda: subject)


def _factory(build: Build) -> Build:
    try:
        signature = inspect.signature(build)
    except (TypeError, ValueError):  # built-in functions may have none: then the call itself will tell
        return build
    try:
        signature.bind("rank", "base", "alpha")
    except TypeError as error:
        raise InputError(
            f"{_called(build)}{signature} cannot be called as build(rank, base, alpha) ({error}); expected a function of a rank, a"
            " torch.nn.Linear and alpha that returns the adapted layer"
        ) from None
    return build


def _called(build: Any) -> str:
    held = getattr(build, "func", build)  # of a partial, what it calls
    return str(getattr(held, "__name__", type(held).__name__)).replace("<lambda>", "module")


def names_object(text: str) -> bool:
    """Whether a text has the form package.module:object."""
    module_name, colon, path = text.partition(":")
    return bool(colon and path) and all(part.isidentifier() for part in [*module_name.split("."), *path.split(".")])


def import_object(text: str, *, argument: str = "target") -> Any:
    """What `package.module:object` names, imported from the current folder or the installed packages.

    Raises: InputError for another form, a module or name that is not there, a module that cannot be imported.
    """
    if not names_object(text):
        raise InputError(f"{argument}={text!r}; expected package.module:object")
    module_name, _, path = text.partition(":")
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        value: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        where = "it is looked for in this folder and among what is installed"
        raise InputError(f"{argument}={text!r}: no module is called {missing!r}; {where}") from None
    except (Exception, SystemExit) as error:
        raise InputError(f"{argument}={text!r}: importing {module_name} raised {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(here)
    for part in path.split("."):
        if not hasattr(value, part):
            public = [name for name in dir(value) if not name.startswith("_")]
            raise InputError(f"{argument}={text!r}: {module_name} has no {part!r}{suggest(part, public)}")
        value = getattr(value, part)
    if isinstance(value, types.ModuleType):
        raise InputError(f"{argument}={text!r} is a module, not an object in one; give package.module:object")
    return value


def _loaded(place: str) -> Callable[[Any], Target]:
    """The function that a text "module:function" of this file names."""
    module_name, _, name = place.partition(":")
    return getattr(importlib.import_module(module_name), name)
