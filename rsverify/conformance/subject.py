"""What is judged: a function that puts an adapter on a linear layer, and what else the implementation can do."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from rsverify.definitions.registry import Declared, adapters, as_declared
from rsverify.definitions.rules import ScalingRule, as_rule
from rsverify.errors import InputError, suggest

INITS = ("identity", "random", "residual")

ARGUMENTS = {
    "build": ("rank", "base", "alpha"),
    "delta": ("module",),
    "merge": ("module",),
    "unmerge": ("module",),
    "save": ("module",),
    "load": ("saved", "base"),
    "set_scale": ("module", "s"),
    "scale": ("module",),
    "add_adapter": ("module", "name", "rank", "alpha"),
    "set_adapter": ("module", "name"),
    "combine": ("module", "names", "weights"),
    "convert": ("module",),
    "redistribute": ("module", "rank"),
}
"""The positional arguments that each capability is called with."""

CAPABILITIES = tuple(name for name in ARGUMENTS if name != "build")


@dataclass(frozen=True)
class Subject:
    """An adapter implementation as a black box: how to build it, the rule it claims, and its further capabilities.

    A capability that is missing skips the checks that need it, with the reason shown.

    Args:
        build: build(rank, base, alpha) -> Module: the adapted layer, called on x (..., d_in) for (..., d_out). It must freeze the
            base layer, an nn.Linear whose parameters require gradients when it is handed over.
        rule: the scaling rule that the implementation claims to follow. alpha: what `build` is called with, never a rank.
        init: what it claims to be at init. `identity` (or None): it adds nothing. `random`: it may add something. `residual`: it adds
            nothing, but takes its own first product off the base weight, as PiSSA does. Or a declared adapter, by object or name: then
            its algebra, its laws and its number of trained entries are checked too.
        delta: delta(module) -> (d_out, d_in), what the adapter adds to the weight the layer was built on, scale included.
        merge, unmerge: put that into the base layer's own weight and take it out again, in place.
        save: save(module) -> any object. load: load(saved, base) -> Module on another layer with the same pretrained weight.
        set_scale: set_scale(module, s): multiplies the configured scale, so that s = 1 is as built. scale: scale(module) -> the
            factor now in force.
        add_adapter: add_adapter(module, name, rank, alpha): a second adapter beside the first, which is called "default"; which of
            them is active afterwards is left open. set_adapter: set_adapter(module, name): only this one acts and trains.
        combine: combine(module, names, weights) -> name of a new adapter, the weighted sum of others.
        convert: convert(module) -> what `load` turns into a plain adapter on the original pretrained weight.
        redistribute: redistribute(module, rank), in place: another rank for the same adapter.
    Raises: InputError for a capability with the wrong signature, an unknown init, an unusable rule or alpha.
    """

    build: Callable[[int, nn.Linear, float], nn.Module]
    _: KW_ONLY
    rule: ScalingRule | str | Callable[[float, float], float] = "alpha/r"
    alpha: float = 20.0
    init: str | Declared | None = None
    delta: Callable[[Any], Tensor] | None = None
    merge: Callable[[Any], Any] | None = None
    unmerge: Callable[[Any], Any] | None = None
    save: Callable[[Any], Any] | None = None
    load: Callable[[Any, nn.Linear], nn.Module] | None = None
    set_scale: Callable[[Any, float], Any] | None = None
    scale: Callable[[Any], float] | None = None
    add_adapter: Callable[[Any, str, int, float], Any] | None = None
    set_adapter: Callable[[Any, str], Any] | None = None
    combine: Callable[[Any, list[str], list[float]], str] | None = None
    convert: Callable[[Any], Any] | None = None
    redistribute: Callable[[Any, int], Any] | None = None
    remake: Callable[[str], Subject] | None = field(default=None, init=False, repr=False, compare=False)
    """The same subject under another rule, where we can build it ourselves."""

    def __post_init__(self) -> None:
        for name, arguments in ARGUMENTS.items():
            _check_signature(name, getattr(self, name), arguments)
        as_rule(self.rule).gamma(3, self.alpha)
        if isinstance(self.init, str) and self.init not in INITS and self.init not in adapters():
            known = [*INITS, *adapters()]
            raise InputError(f"init={self.init!r} is neither of {', '.join(INITS)} nor a declared adapter{suggest(self.init, known)}")

    @property
    def scaling(self) -> ScalingRule:
        """The rule as an object."""
        return as_rule(self.rule)

    @property
    def declared(self) -> Declared | None:
        """The declared adapter that the subject claims to be, if it claims any."""
        return None if self.init is None or self.init in INITS else as_declared(self.init)

    @property
    def claim(self) -> str:
        """`identity`, `random` or `residual`: what is expected at init."""
        if self.init is None or self.init in INITS:
            return str(self.init or "identity")
        declared = self.declared
        assert declared is not None
        if "residual-base" in declared.tags:
            return "residual"
        return "identity" if starts_at_nothing(declared) else "random"

    @property
    def capabilities(self) -> frozenset[str]:
        """Names of the capabilities that it has."""
        return frozenset(name for name in CAPABILITIES if getattr(self, name) is not None)

    def without(self, *names: str) -> Subject:
        """The same subject with some capabilities taken away."""
        return replace(self, **dict.fromkeys(names))


def starts_at_nothing(adapter: Declared) -> bool:
    """Whether a factor that is zero at init makes the added weight vanish."""
    laws = getattr(adapter, "laws", None)
    return True if laws is None else any(law.text() in ("zero", "frozen(zero)") for law in laws.values())


def with_remake(subject: Subject, remake: Callable[[str], Subject]) -> Subject:
    """The subject, knowing how to be made under another rule."""
    object.__setattr__(subject, "remake", remake)
    return subject


def _check_signature(name: str, function: object, arguments: tuple[str, ...]) -> None:
    if function is None and name != "build":
        return
    wanted = f"{name}({', '.join(arguments)})"
    if not callable(function):
        raise InputError(f"{name}={function!r} is not callable; expected a function {wanted}")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # built-in functions may have none: then the call itself will tell
        return
    try:
        signature.bind(*arguments)
    except TypeError as error:
        shown = f"{getattr(function, '__name__', name)}{signature}"
        raise InputError(f"{name} has the wrong signature: it is called as {wanted}, but {shown} cannot be ({error})") from None
