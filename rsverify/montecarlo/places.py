"""Where an adapter is simulated: widths and ranks at which its rank can grow, found by asking the adapter, not by its name.

Ranks follow the regime. An axis that the rank divides, or singular vectors, of which a weight has no more than its smaller side, keep
the rank far below the widths; all else is simulated far beyond them, where what is left of the widths is small.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from rsverify.definitions.adapter import Adapter, RoundedSizes
from rsverify.definitions.registry import Declared
from rsverify.definitions.targets import Build, Target
from rsverify.definitions.wrapped import WrappedAdapter
from rsverify.errors import AdapterError, InputError


@dataclass(frozen=True)
class Sizes:
    """Where a variant is simulated: widths, ranks, and the regime that these ranks stand for.

    `far` are the sizes to go to where no exact law can be taken out of the draws, and the limit has to be near; `alpha` replaces
    the usual one where that would put the limit out of reach.
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
SPECTRAL = Sizes("width", 512, 128, (2, 4, 8, 16))
"""Of a module whose rank is bounded by the widths."""
KRONECKER = Sizes("rank", 16384, 4, (8, 16, 32, 60))
"""Of a module with a Kronecker product whose second factor is of low rank only below half of its larger size."""
HIGH = Sizes("rank", 16, 12, (1024, 4096, 16384))
OWN_SIZES = {"fourierft": WAVES, "dora": WEAK}


def sizes_of(adapter: Declared) -> Sizes:
    """The regime in which a declared adapter's rank can grow, found by asking the adapter for its sizes."""
    if isinstance(adapter, WrappedAdapter):
        return BELOW if "residual-base" in adapter.tags else OWN_SIZES.get(adapter.name, MODULES)
    if not all(law.independent for law in adapter.laws.values()):
        return below(adapter.name)
    beyond = replace(BEYOND, far=FARTHER_BEYOND.get(adapter.name))
    return beyond if fits(adapter, BEYOND) else SHARDS if deterministic(adapter) else DIVIDING


def below(name: str) -> Sizes:
    """The regime `width` of an adapter."""
    return replace(BELOW, far=FARTHER_BELOW.get(name, FAR_BELOW))


def fits(adapter: Adapter, sizes: Sizes) -> bool:
    """Whether every axis has a whole size there, and the one that formulas say."""
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


def deterministic(adapter: Declared) -> bool:
    """Whether nothing about the adapter is drawn: then only fresh data can show a spread."""
    if isinstance(adapter, WrappedAdapter):
        return adapter.name == "fourierft"  # its places are those of one seed
    return all(law.text().removeprefix("frozen(").startswith(("zero", "constant")) for law in adapter.laws.values())


@dataclass(frozen=True)
class Place:
    """Where a target is simulated, and whether every draw takes a layer and data of its own."""

    sizes: Sizes
    fresh: bool = False


def place_of(target: Target) -> Place:
    """Where a target is simulated by default.

    A module is asked: it is built beyond the widths and, where that cannot be or its number of parameters no longer grows, below them.

    Raises: InputError with what the factory does at any rank, where it works at none.
    """
    if target.build is None:
        declared = target.derivable
        return Place(sizes_of(declared), fresh=deterministic(declared))
    declared = target.declared
    if declared is not None:
        sizes, fresh = sizes_of(declared), deterministic(declared) or (isinstance(declared, WrappedAdapter) and _from_base(declared))
        if isinstance(declared, Adapter) and declared.full is not None:
            return Place(KRONECKER, fresh)
        return Place(sizes if sizes.regime != "rank" or sizes in (DIVIDING, SHARDS, WAVES, WEAK) else MODULES, fresh)
    return Place(_asked(target.build, target.alpha or 20.0))


def _from_base(adapter: WrappedAdapter) -> bool:
    return "residual-base" in adapter.tags


def _asked(build: Build, alpha: float) -> Sizes:
    """Beyond the widths where the factory builds there and its trained entries go on growing; below them otherwise."""
    counts: list[int] = []
    for rank in MODULES.ranks[:2]:
        try:
            counts.append(trained_entries(build, rank, MODULES.d_in, MODULES.d_out, alpha))
        except InputError:
            raise
        except Exception:  # whatever a factory raises where its rank cannot be: it is asked below the widths, and speaks for itself there
            return SPECTRAL
    return MODULES if counts[1] > counts[0] else SPECTRAL


def trained_entries(build: Build, rank: int, d_in: int, d_out: int, alpha: float) -> int:
    """Number of entries that training moves in what a factory builds."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        base: Any = torch.nn.Linear(d_in, d_out, bias=False, dtype=torch.float64)
        module = build(rank, base, alpha)
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
