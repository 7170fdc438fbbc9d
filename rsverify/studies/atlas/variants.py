"""What the atlas lists: every registered adapter, and the other inits under which libraries ship them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.laws import Gaussian, KaimingUniform, Orthonormal, PrincipalComponents
from rsverify.definitions.registry import Declared, adapters
from rsverify.errors import InputError, UnknownName
from rsverify.montecarlo.places import BEYOND, DIVIDING, Sizes, below, deterministic, sizes_of

REMARKS = {
    (
        "dora",
        "sgd",
        "rank",
    ): "What stays is the motion of the trained magnitudes, which no gamma scales; the low-rank part moves as LoRA's.",
    ("loha", "adamw", "width"): "So for r far below sqrt(d_out); from there on as beyond the widths.",
    ("lokr", "adamw", "width"): "So for r far below the size of the first Kronecker factor; from there on as beyond the widths.",
    ("lokr-lycoris", "adamw", "width"): "So for r far below the size of the second Kronecker factor; from there on as beyond the widths.",
    ("pissa", "adamw", "width"): "Of a weight whose r largest singular values are alike; real ones fall off.",
}
"""What must be known of an answer beside its power of r."""


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
    def both_regimes(self) -> bool:
        """Whether the rank can grow beyond the widths, so that the regime `width` is another one."""
        return self.sizes == DIVIDING or replace(self.sizes, far=None) == BEYOND

    @property
    def regimes(self) -> tuple[Sizes, ...]:
        """Where it is simulated: its own sizes, and far below the widths, where most adapters live and rules may differ."""
        return (self.sizes, below(self.name)) if self.both_regimes else (self.sizes,)

    @property
    def init(self) -> str:
        return self.declared.init if isinstance(self.declared, Adapter) else f"as built: {self.declared.note}"


def _variant(adapter: Declared, *, library: str = "", note: str = "") -> Variant:
    multilinear = isinstance(adapter, Adapter)
    return Variant(
        adapter.name, library or _library(adapter), adapter, adapter if multilinear else None, adapter.rule, sizes_of(adapter),
        silent="" if multilinear else adapter.reason, note=note or adapter.note, fresh_data=deterministic(adapter),
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


def _olora() -> Variant:
    olora, lora = adapters()["olora"], adapters()["lora"]
    assert isinstance(lora, Adapter)
    # Q of a weight with independent entries is uniformly distributed, and the rows of R are such entries too, but for its r x r corner.
    law = lora.with_init(B=Orthonormal(), A=Gaussian(std="1/sqrt(3*d_in)")).renamed("olora")
    note = "Theory and simulation are of the QR factors of a weight with independent entries, without the triangle of R."
    found = _variant(law, library="PEFT 0.21.2", note=note)
    return replace(found, rule=olora.rule)


INITS["olora"] = _olora


@cache
def built_in() -> dict[str, Variant]:
    """The variants that come with us, by name, whatever a running program registers."""
    found = {name: _variant(adapter) for name, adapter in adapters().items() if name not in INITS}
    return {**found, **{name: make() for name, make in INITS.items()}}


def variants() -> dict[str, Variant]:
    """Every variant by name: the registered adapters, then further inits."""
    known = dict(built_in())
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
