"""Declarations of known structures, for the engine's own tests, and a law small enough to enumerate."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.laws import Constant, Gaussian, KaimingUniform, Law, Zero, frozen
from rsverify.definitions.registry import adapters
from rsverify.expressions import Expression


@dataclass(frozen=True)
class Signs(Law):
    """Independent signs: small enough to enumerate."""

    @property
    def spread(self) -> Expression:
        return Expression("1")

    def standard_moment(self, order: int) -> Fraction:
        return Fraction(int(order % 2 == 0))

    def standard_draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return rng.choice([-1.0, 1.0], shape)

    def text(self) -> str:
        return "signs"


MORE = {
    adapter.name: adapter
    for adapter in (
        Adapter("a-zero", "o r, r i -> o i", B=KaimingUniform(fan_in="r"), A=Zero()),
        Adapter("both", "o r, r i -> o i", B=KaimingUniform(fan_in="r"), A=KaimingUniform(fan_in="i")),
        Adapter("constant", "o r, r i -> o i", B=Constant("1/r"), A=Gaussian(std="1/sqrt(i)")),
        Adapter(
            "columns grouped", "o r, r p, q -> o (p q)", sizes={"p": "2", "q": "d_in/2"},
            B=Zero(), A=Gaussian(std=1), C=frozen(Gaussian(std=1)),
        ),
    )
}  # fmt: skip
"""Structures and inits that no known adapter has: A zero, nothing zero, constants, a group."""


def multilinear() -> dict[str, Adapter]:
    """Every known adapter that is multilinear, and MORE."""
    return {**{name: adapter for name, adapter in adapters().items() if type(adapter) is Adapter}, **MORE}


def with_signs(adapter: Adapter) -> Adapter:
    """The same structure with signs for every random factor and small whole numbers for every constant one."""

    def small(law: Law) -> Law:
        if not law.trainable:
            return frozen(small(law.law))  # type: ignore[attr-defined]
        return law if isinstance(law, Zero) else Constant(2) if isinstance(law, Constant) else Signs()

    return adapter.with_init(**{name: small(law) for name, law in adapter.laws.items()})
