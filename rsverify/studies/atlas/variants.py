"""What the atlas lists: every registered adapter, and the other inits under which libraries ship them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from rsverify.definitions.adapter import Adapter, RoundedSizes
from rsverify.definitions.laws import Gaussian, KaimingUniform, PrincipalComponents
from rsverify.definitions.registry import Declared, adapters
from rsverify.definitions.wrapped import WrappedAdapter
from rsverify.errors import AdapterError, InputError, UnknownName


@dataclass(frozen=True)
class Sizes:
    """Where a variant is simulated: widths, ranks, and the regime that these ranks stand for."""

    regime: str
    d_in: int
    d_out: int
    ranks: tuple[int, ...]


BEYOND = Sizes("rank", 16, 12, (16, 64, 256))
"""Ranks far beyond the widths: the limit of the regime `rank` is near."""
DIVIDING = Sizes("rank", 64, 96, (4, 8, 16, 32))
"""Where a size is the width over the rank: ranks divide the width."""
BELOW = Sizes("width", 96, 64, (2, 4, 8))
"""Ranks at most an eighth of the widths, as frames and singular vectors need."""


@dataclass(frozen=True)
class Variant:
    """An adapter under one init, as one library ships it.

    Args:
        theory: what the symbolic witness speaks of; None where it is silent, and `silent` says why.
        declared: what is simulated, from its draws; a wrapped adapter is not.
        rule: the shipped scaling rule.
    """

    name: str
    library: str
    declared: Declared
    theory: Adapter | None
    rule: str
    sizes: Sizes
    silent: str = ""
    note: str = ""
    fresh_data: bool = False

    @property
    def init(self) -> str:
        return self.declared.init if isinstance(self.declared, Adapter) else f"as built: {self.declared.note}"


def _sizes(adapter: Declared) -> Sizes:
    """The regime in which the adapter's rank can grow, found by asking the adapter for its sizes."""
    if isinstance(adapter, WrappedAdapter):
        return BELOW
    if not all(law.independent for law in adapter.laws.values()):
        return BELOW
    return BEYOND if _fits(adapter, BEYOND) else DIVIDING


def _fits(adapter: Adapter, sizes: Sizes) -> bool:
    try:
        for rank in sizes.ranks:
            adapter.axis_sizes(rank, sizes.d_in, sizes.d_out)
    except AdapterError:
        return False
    if not isinstance(adapter.sizes, RoundedSizes):
        return True
    from rsverify.expressions import Expression

    given = [{"r": r, "d_in": sizes.d_in, "d_out": sizes.d_out} for r in sizes.ranks]
    exact = [adapter.sizes(one["d_in"], one["d_out"], one["r"]) for one in given]
    return all(Expression(text).evaluate(one) == whole[axis] for axis, text in adapter.sizes.formulas.items()
               for one, whole in zip(given, exact, strict=True))  # fmt: skip


def _deterministic(adapter: Declared) -> bool:
    """Whether nothing about the adapter is drawn: then only fresh data can show a spread."""
    return isinstance(adapter, Adapter) and all(law.text().removeprefix("frozen(").startswith(("zero", "constant"))
                                                for law in adapter.laws.values())  # fmt: skip


def _variant(adapter: Declared, *, library: str = "", note: str = "") -> Variant:
    multilinear = isinstance(adapter, Adapter)
    return Variant(
        adapter.name, library or _library(adapter), adapter, adapter if multilinear else None, adapter.rule, _sizes(adapter),
        silent="" if multilinear else adapter.reason, note=note or adapter.note, fresh_data=_deterministic(adapter),
    )  # fmt: skip


def _library(adapter: Declared) -> str:
    if "lycoris" in adapter.name:
        return "LyCORIS 4.1.3"
    return "PEFT 0.21.2" if "PEFT 0.21.2" in adapter.source else "original"


def _lora(name: str, note: str, **laws: Any) -> Callable[[], Variant]:
    return lambda: _variant(adapters()["lora"].with_init(**laws).renamed(name), library="PEFT 0.21.2", note=note)  # type: ignore[union-attr]


INITS: dict[str, Callable[[], Variant]] = {
    "lora-gaussian": _lora("lora-gaussian", "init_lora_weights='gaussian': A has standard deviation 1/r.", A=Gaussian(std="1/r")),
    "lora-random": _lora(
        "lora-random", "init_lora_weights=False: both factors Kaiming uniform, nothing is zero.",
        B=KaimingUniform(fan_in="r"), A=KaimingUniform(fan_in="i"),
    ),
    "hira-gaussian": lambda: _variant(
        adapters()["hira"].with_init(A=Gaussian(std="1/r")).renamed("hira-gaussian"), library="PEFT 0.21.2",  # type: ignore[union-attr]
        note="init_weights='gaussian': A has standard deviation 1/r.",
    ),
}  # fmt: skip
"""Inits that libraries offer beside an adapter's usual one."""


def _pissa() -> Variant:
    up, down = PrincipalComponents("columns"), PrincipalComponents("rows")
    lora = adapters()["lora"]
    assert isinstance(lora, Adapter)
    note = "As of a base weight with a flat spectrum: real ones fall off, and what r adds falls off with them."
    return _variant(lora.with_init(B=up, A=down).renamed("pissa"), library="PEFT 0.21.2", note=note)


INITS["pissa"] = _pissa


@cache
def _built_in() -> dict[str, Variant]:
    found = {name: _variant(adapter) for name, adapter in adapters().items() if name not in INITS}
    return {**found, **{name: make() for name, make in INITS.items()}}


def variants() -> dict[str, Variant]:
    """Every variant by name: the registered adapters, then further inits."""
    known = dict(_built_in())
    for name, adapter in adapters().items():
        if name not in known:  # registered by the running program
            known[name] = _variant(adapter)
    return dict(sorted(known.items()))


def as_variant(name: str) -> Variant:
    """The variant of that name.

    Raises: UnknownName with the nearest names.
    """
    known = variants()
    if name not in known:
        raise UnknownName("adapter", name, known)
    return known[name]


def chosen(names: tuple[str, ...]) -> tuple[Variant, ...]:
    """The variants asked for, all where none are named; a name twice is refused.

    Raises: UnknownName, InputError.
    """
    if len(set(names)) < len(names):
        raise InputError(f"adapters={list(names)}: a name stands there twice; give each once")
    return tuple(as_variant(name) for name in names) if names else tuple(variants().values())
