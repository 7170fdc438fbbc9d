"""What is judged: a function that puts an adapter on a linear layer, and what else the implementation can do."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from rsverify.definitions.registry import Declared, adapters, as_declared
from rsverify.definitions.rules import ScalingRule, as_rule
from rsverify.definitions.wrapped import WrappedAdapter
from rsverify.errors import InputError, suggest

INITS = ("identity", "random", "residual")

QUANTITIES = ("gradient_norm", "update:sgd", "update:adamw", "loss_decrease:sgd", "loss_decrease:adamw")
"""What the stability checks measure of the first step: a quantity, and the optimizer that takes the step."""

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
    "parts": ("module",),
}
"""The positional arguments that each capability is called with."""

CAPABILITIES = tuple(name for name in ARGUMENTS if name != "build")


@dataclass(frozen=True)
class Part:
    """One product inside an adapted layer that is made of several: a projection of a fused weight, or an expert.

    Args:
        up, down: the module's own factors, (rows, rank) and (rank, d_in), or views of them: checks write to `up`.
        rank, alpha: those of this part, from which the subject's rule makes its scale.
        rows: the rows of the fused weight that it adds to, first and last + 1; None for all of them.
        weight: what its product is multiplied with besides its scale, as an expert's by its router.
    """

    up: Tensor
    down: Tensor
    _: KW_ONLY
    rank: int
    alpha: float
    rows: tuple[int, int] | None = None
    weight: float = 1.0


@runtime_checkable
class Maker(Protocol):
    """An object whose method `build` is a subject's, and which can be made under other conditions: what we build ourselves."""

    def build(self, rank: int, base: nn.Linear, alpha: float) -> nn.Module: ...

    def under(self, rule: str) -> Maker: ...

    def with_full_matrices(self) -> Maker | None: ...

    def subject(self, *, alpha: float) -> Subject: ...


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
        exponents: powers of the rank that the implementation claims, by quantity (of QUANTITIES), at alpha held fixed: what the stability
            checks hold it to where nothing is declared that could be derived or simulated, e.g. {"update:sgd": 0}.
        parts: parts(module) -> {name: rv.Part}, where the layer is made of several products: projections of a fused weight, experts.
    Raises: InputError for a capability with the wrong signature, an unknown init, an unusable rule or alpha.
    """

    build: Callable[[int, nn.Linear, float], nn.Module]
    _: KW_ONLY
    rule: ScalingRule | str | Callable[[int, float], float] = "alpha/r"
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
    parts: Callable[[Any], Mapping[str, Part]] | None = None
    exponents: Mapping[str, float] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for name, arguments in ARGUMENTS.items():
            _check_signature(name, getattr(self, name), arguments)
        as_rule(self.rule).gamma(3, self.alpha)
        for quantity, power in self.exponents.items():
            if quantity not in QUANTITIES:
                known = ", ".join(QUANTITIES)
                raise InputError(f"exponents: {quantity!r} is none of {known}{suggest(quantity, QUANTITIES)}")
            if not math.isfinite(power):
                raise InputError(f"exponents: {quantity}={power!r}; expected a finite power of the rank, e.g. -0.5")
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

    def under(self, rule: str) -> Subject | None:
        """The same implementation under another rule; None where the object whose method `build` is cannot be made so."""
        maker = self._maker
        return None if maker is None else maker.under(rule).subject(alpha=self.alpha)

    def with_full_matrices(self) -> Subject:
        """The same subject, built with full matrices where its declaration says that they stand in; itself where we cannot know."""
        maker = None if self._maker is None else self._maker.with_full_matrices()
        return self if maker is None else replace(self, build=maker.build)

    @property
    def _maker(self) -> Maker | None:
        maker = getattr(self.build, "__self__", None)
        return maker if isinstance(maker, Maker) else None

    def without(self, *names: str) -> Subject:
        """The same subject with some capabilities taken away."""
        return replace(self, **dict.fromkeys(names))


def starts_at_nothing(adapter: Declared) -> bool:
    """Whether a factor that is zero at init makes the added weight vanish."""
    laws = adapter.core.laws if isinstance(adapter, WrappedAdapter) else adapter.laws
    return any(law.text() in ("zero", "frozen(zero)") for law in laws.values())


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
