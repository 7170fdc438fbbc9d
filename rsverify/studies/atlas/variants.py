"""What the atlas lists: every registered adapter, and the other inits under which libraries ship them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from rsverify.definitions.adapter import Adapter, RoundedSizes
from rsverify.definitions.laws import Gaussian, KaimingUniform, Orthonormal, PrincipalComponents
from rsverify.definitions.registry import Declared, adapters
from rsverify.definitions.wrapped import WrappedAdapter
from rsverify.errors import AdapterError, InputError, UnknownName


@dataclass(frozen=True)
class Sizes:
    """Where a variant is simulated: widths, ranks, and the regime that these ranks stand for.

    `far` are the sizes to go to where no exact law can be taken out of the draws, and the limit has to be near; `alpha` replaces
    the atlas's where that would put the limit out of reach.
    """

    regime: str
    d_in: int
    d_out: int
    ranks: tuple[int, ...]
    far: Sizes | None = None
    alpha: float | None = None

    @property
    def most(self) -> int:
        """Ranks of a curve at most: the number of its points, for the error budget."""
        return max(len(self.ranks), len(self.far.ranks) if self.far else 0)


FAR_BEYOND = Sizes("rank", 16, 12, (128, 256, 512, 1024, 2048))
"""Ranks from eight times the widths on: what is left of them is at most a few hundredths."""
BEYOND = Sizes("rank", 16, 12, (16, 64, 256))
"""Ranks beyond the widths."""
FARTHER_BEYOND: dict[str, Sizes] = dict.fromkeys(("adalora", "loha", "lora-random", "lokr-lycoris"), FAR_BEYOND)
"""Whose sign steps still have large corrections in widths over rank at ranks beyond the widths."""
DIVIDING = Sizes("rank", 64, 96, (4, 8, 16, 32))
"""Where a size is the width over the rank: ranks divide the width."""
SHARDS = Sizes("rank", 512, 8, (16, 64, 256))
"""The same where nothing but the data is drawn: ranks at which that averages."""
FAR_BELOW = Sizes("width", 512, 384, (2, 4, 8, 16, 32))
BELOW = Sizes("width", 96, 64, (2, 4, 8), FAR_BELOW)
"""Ranks at most an eighth of the widths, as frames and singular vectors need."""

FARTHER_BELOW = {
    "loha": Sizes("width", 512, 32768, (4, 8, 16, 32)),
    "lokr": Sizes("width", 65536, 65536, (2, 4, 8, 16)),
    "lokr-lycoris": Sizes("width", 65536, 65536, (2, 4, 8, 16)),
    "randlora": Sizes("width", 256, 192, (2, 4, 8, 16)),
    "pissa": Sizes("width", 1024, 1024, (2, 4, 8, 16, 32)),
}
"""Where sign steps change their power of r at another size than the widths (docs/decisions.md): loha at r**2 near d_out, the Kronecker
products near the size of their first factor, pissa at r near d_in**2 / d_out; RandLoRA's bases are as large as the weight."""
MODULES = Sizes("rank", 16, 12, (256, 1024, 4096))
"""A module a draw: few draws are enough where r averages."""
WEAK = replace(MODULES, alpha=1.0)
"""DoRA: its magnitudes move whatever gamma is, and under alpha/r they are all that moves in the end; at alpha 20 only beyond r = 10,000."""
WAVES = Sizes("rank", 8192, 2, (256, 1024, 4096))
"""FourierFT: far more frequencies than rows, far fewer than entries."""
OWN_SIZES = {"fourierft": WAVES, "dora": WEAK}

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


def _sizes(adapter: Declared) -> Sizes:
    """The regime in which the adapter's rank can grow, found by asking the adapter for its sizes."""
    if isinstance(adapter, WrappedAdapter):
        return BELOW if "residual-base" in adapter.tags else OWN_SIZES.get(adapter.name, MODULES)
    if not all(law.independent for law in adapter.laws.values()):
        return below(adapter.name)
    beyond = replace(BEYOND, far=FARTHER_BEYOND.get(adapter.name))
    return beyond if _fits(adapter, BEYOND) else SHARDS if _deterministic(adapter) else DIVIDING


def below(name: str) -> Sizes:
    """The regime `width` of a variant."""
    return replace(BELOW, far=FARTHER_BELOW.get(name, FAR_BELOW))


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
    if isinstance(adapter, WrappedAdapter):
        return adapter.name == "fourierft"  # its places are those of one seed
    return all(law.text().removeprefix("frozen(").startswith(("zero", "constant")) for law in adapter.laws.values())


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
