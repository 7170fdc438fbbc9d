"""Init distributions of factors: how to draw them, and the exact moments that theory needs.

A law of independent entries is a standard variable times a spread; the spread is a formula in `r` and the axis names,
so that "1/r" or "1/sqrt(i)" follow the sizes. Standard moments are fractions: theory stays exact.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np

from rsverify.errors import AdapterError
from rsverify.expressions import Expression
from rsverify.powerlaw import LARGEST, SMALLEST


def _formula(value: float | int | str | Expression) -> Expression:
    return value if isinstance(value, Expression) else _parsed(str(value))


@lru_cache(maxsize=1024)
def _parsed(text: str) -> Expression:
    return Expression(text)


_USABLE = f"zero or a number from {SMALLEST:g} to {LARGEST:g}"


@dataclass(frozen=True)
class Law(ABC):
    """How the entries of a factor are drawn at init; `trainable` says whether training may move it."""

    @property
    def trainable(self) -> bool:
        return True

    @property
    @abstractmethod
    def spread(self) -> Expression:
        """The factor of scale: an entry is `spread` times a standard variable."""

    @abstractmethod
    def standard_moment(self, order: int) -> Fraction:
        """E z**order of the standard variable z."""

    @property
    def independent(self) -> bool:
        """Whether the entries are independent; where not, moments of products of entries need the law's own argument."""
        return True

    @property
    def absorbs_gamma(self) -> bool:
        """Whether the factor at init depends on the scaling factor, so that its spread may name `gamma`."""
        return False

    @property
    def standard_uniform(self) -> bool:
        """Whether the standard variables are what `Generator.uniform(-1, 1)` draws, entry after entry: another generator may do so."""
        return False

    def check_shape(self, shape: tuple[int, ...]) -> None:  # noqa: B027 - most laws have a draw of any shape
        """Refuse a shape of the factor that the law has no draw of. Raises: AdapterError."""

    @abstractmethod
    def standard_draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Standard variables, float64; the last two axes are those of the factor."""

    @abstractmethod
    def text(self) -> str:
        """The declaration as one would write it."""

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...], sizes: Mapping[str, float]) -> np.ndarray:
        """Entries in float64, for axis sizes given by name.

        Args: sizes must hold `r` and the axes that the spread names, and `gamma` for a law that absorbs it.
        """
        return self.standard_draw(rng, shape) * self.scale(sizes)

    def scale(self, sizes: Mapping[str, float]) -> float:
        """The spread as a number at given sizes."""
        if self.absorbs_gamma and not sizes.get("gamma", 0.0) > 0:
            raise AdapterError(f"law {self.text()} starts with 1/sqrt(gamma), but gamma={sizes.get('gamma')}; expected a positive number")
        value, problem = self._spread_at(sizes)
        if problem:
            raise AdapterError(f"law {self.text()} {problem} at {dict(sizes)}; expected {_USABLE}")
        return value

    def _spread_at(self, sizes: Mapping[str, float]) -> tuple[float, str]:
        """The spread at given sizes, and what is wrong with it in words; empty where nothing is."""
        try:
            value = self.spread.evaluate({name: float(size) for name, size in sizes.items()})
        except ZeroDivisionError:
            return math.nan, "divides by zero"
        except (ArithmeticError, ValueError) as error:
            return math.nan, f"has a spread that cannot be computed ({error})"
        if isinstance(value, complex):
            return math.nan, f"has spread {value:.3g}, which is complex,"
        value = float(value)
        if value and not SMALLEST <= abs(value) <= LARGEST:
            return value, f"has spread {value:g}, whose powers leave the range of floats,"
        if not math.isfinite(value):
            return value, f"has spread {value}"
        return value, f"has spread {value:g} below zero" if value < 0 and not self.signed else ""

    @property
    def signed(self) -> bool:
        """Whether the spread may be negative: where it is the value of the entries itself."""
        return False

    def refuse_spread(self, names: Iterable[str]) -> None:
        """Refuse a spread that is of no use at any of many sizes, before anything is asked of it.

        Args: names are the sizes that it may use. Raises: AdapterError.
        """
        names = list(names)
        problems = [
            self._spread_at(dict(zip(names, (base + step * k for k in range(len(names))), strict=True)))[1]
            for base in (1.0, 2.0, 7.0, 64.0, 1000.0)
            for step in (0.0, 3.0, 500.0)
        ]
        if all(problems):
            raise AdapterError(f"law {self.text()} {problems[0].rstrip(',')} at every size that was tried; expected {_USABLE}")

    def standard_cumulant(self, order: int) -> Fraction:
        """The cumulant of the standard variable, from its moments."""
        moments = [self.standard_moment(k) for k in range(order + 1)]
        cumulants = [Fraction(0)] * (order + 1)
        for n in range(1, order + 1):
            cumulants[n] = moments[n] - sum(math.comb(n - 1, k - 1) * cumulants[k] * moments[n - k] for k in range(1, n))
        return cumulants[order]

    def __str__(self) -> str:
        return self.text()


@dataclass(frozen=True)
class Zero(Law):
    """All entries zero."""

    @property
    def spread(self) -> Expression:
        return Expression("0")

    def standard_moment(self, order: int) -> Fraction:
        return Fraction(int(order == 0))

    def standard_draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return np.zeros(shape)

    def text(self) -> str:
        return "zero"


@dataclass(frozen=True)
class Constant(Law):
    """All entries equal to `value`, a number or a formula in r and axis names."""

    value: float | str | Expression

    @property
    def spread(self) -> Expression:
        return _formula(self.value)

    @property
    def signed(self) -> bool:
        return True

    def standard_moment(self, order: int) -> Fraction:
        return Fraction(1)

    def standard_draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return np.ones(shape)

    def text(self) -> str:
        return f"constant({self.spread.text})"


@dataclass(frozen=True)
class Gaussian(Law):
    """Independent normal entries of standard deviation `std`, a number or a formula in r and axis names."""

    std: float | str | Expression = 1

    @property
    def spread(self) -> Expression:
        return _formula(self.std)

    def standard_moment(self, order: int) -> Fraction:
        return Fraction(0 if order % 2 else math.prod(range(1, order, 2)))

    def standard_draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return rng.standard_normal(shape)

    def text(self) -> str:
        return f"gaussian(std={self.spread.text})"


@dataclass(frozen=True)
class Uniform(Law):
    """Independent entries uniform on [-bound, bound], bound a number or a formula in r and axis names."""

    bound: float | str | Expression = 1

    @property
    def spread(self) -> Expression:
        return _formula(self.bound)

    def standard_moment(self, order: int) -> Fraction:
        return Fraction(0) if order % 2 else Fraction(1, order + 1)

    @property
    def standard_uniform(self) -> bool:
        return True

    def standard_draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return rng.uniform(-1.0, 1.0, shape)

    def text(self) -> str:
        return f"uniform(bound={self.spread.text})"


@dataclass(frozen=True)
class KaimingUniform(Law):
    """Uniform on +-1/sqrt(fan): what kaiming_uniform_(a=sqrt(5)) draws, the default of nn.Linear and of LoRA's A.

    `fan_in` is the name of the axis that is summed over when data meets the factor. The variance is 1/(3 fan).
    """

    fan_in: str = "i"

    @property
    def spread(self) -> Expression:
        return Expression(f"1/sqrt({self.fan_in})")

    def standard_moment(self, order: int) -> Fraction:
        return Fraction(0) if order % 2 else Fraction(1, order + 1)

    @property
    def standard_uniform(self) -> bool:
        return True

    def standard_draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return rng.uniform(-1.0, 1.0, shape)

    def text(self) -> str:
        return f"kaiming_uniform(fan_in={self.fan_in})"


@dataclass(frozen=True)
class Orthonormal(Law):
    """Rows (of a wide factor) or columns (of a tall one) orthonormal and uniformly distributed, times `gain`.

    Entries are dependent: a single entry has mean zero and variance gain**2 / (the larger of the two sizes).
    """

    gain: float | str | Expression = 1

    @property
    def spread(self) -> Expression:
        return _formula(self.gain)

    @property
    def independent(self) -> bool:
        return False

    def standard_moment(self, order: int) -> Fraction:
        raise AdapterError("the entries of an orthonormal factor are dependent: their moments depend on both sizes")

    def standard_draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        *batch, rows, columns = shape
        tall, wide = max(rows, columns), min(rows, columns)
        q, triangle = np.linalg.qr(rng.standard_normal((*batch, tall, wide)))
        # Signs from the triangle make the draw uniform; QR alone favours one orientation.
        q = q * np.sign(np.diagonal(triangle, axis1=-2, axis2=-1))[..., None, :]
        return q if rows >= columns else np.swapaxes(q, -1, -2)

    def text(self) -> str:
        return f"orthonormal(gain={self.spread.text})"


@dataclass(frozen=True)
class PrincipalComponents(Law):
    """One factor of the principal part of a random base weight W = U S V': U sqrt(S/gamma) or sqrt(S/gamma) V', as PiSSA starts.

    The frames U and V are uniformly distributed and independent (as of a Gaussian W); the singular values are `largest` k**-decay,
    k = 1, 2, ...: flat at decay 0. Both factors together absorb one gamma: gamma B A is the principal part itself.

    Args: components says where the components stand, in the `rows` of the factor (A) or in its `columns` (B); decay is a number.
    """

    components: str
    decay: float | str = 0
    largest: float | str | Expression = 1

    def __post_init__(self) -> None:
        if self.components not in ("rows", "columns"):
            raise AdapterError(f"components={self.components!r}; expected rows (of A) or columns (of B)")
        try:
            usable = Fraction(str(self.decay)) >= 0
        except ValueError:
            usable = False
        if not usable:
            raise AdapterError(f"decay={self.decay!r}; expected a number from 0 as the power in k**-decay, e.g. 1/2")

    @property
    def spread(self) -> Expression:
        return Expression(f"sqrt(({_formula(self.largest).text})/gamma)")

    @property
    def independent(self) -> bool:
        return False

    @property
    def absorbs_gamma(self) -> bool:
        return True

    def check_shape(self, shape: tuple[int, ...]) -> None:
        count, width = shape[-2:] if self.components == "rows" else shape[:-3:-1]
        if count > width:
            raise AdapterError(
                f"{count} principal components of a weight with a side of {width}: there are no more than its sides are long;"
                " ask for smaller ranks or a wider layer"
            )

    def standard_moment(self, order: int) -> Fraction:
        raise AdapterError("the entries of principal components are dependent: their moments depend on both sizes")

    def standard_draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        self.check_shape(shape)
        count = shape[-2] if self.components == "rows" else shape[-1]
        roots = np.arange(1.0, count + 1) ** -(float(Fraction(str(self.decay))) / 2)
        return Orthonormal().standard_draw(rng, shape) * (roots[:, None] if self.components == "rows" else roots)

    def text(self) -> str:
        given = (("decay", self.decay, "0"), ("largest", self.largest, "1"))
        options = "".join(f", {name}={value}" for name, value, usual in given if str(value) != usual)
        return f"principal_components({self.components}{options})"


@dataclass(frozen=True)
class Frozen(Law):
    """A law whose factor is drawn once and never trained. Made by `frozen(law)`."""

    law: Law

    @property
    def trainable(self) -> bool:
        return False

    @property
    def spread(self) -> Expression:
        return self.law.spread

    @property
    def independent(self) -> bool:
        return self.law.independent

    @property
    def signed(self) -> bool:
        return self.law.signed

    @property
    def absorbs_gamma(self) -> bool:
        return self.law.absorbs_gamma

    @property
    def standard_uniform(self) -> bool:
        return self.law.standard_uniform

    def check_shape(self, shape: tuple[int, ...]) -> None:
        self.law.check_shape(shape)

    def standard_moment(self, order: int) -> Fraction:
        return self.law.standard_moment(order)

    def standard_draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return self.law.standard_draw(rng, shape)

    def text(self) -> str:
        return f"frozen({self.law.text()})"


def frozen(law: Law) -> Frozen:
    """The law of a factor that training leaves alone."""
    return law if isinstance(law, Frozen) else Frozen(law)


def rescaled(law: Law, factor: str) -> Law:
    """The same law with its spread multiplied by a formula, e.g. "1/sqrt(r)" or "sqrt(r)"."""
    if isinstance(law, Frozen):
        return Frozen(rescaled(law.law, factor))
    spread = f"({law.spread.text})*({factor})"
    changed: dict[type[Law], Any] = {Gaussian: "std", Constant: "value", Uniform: "bound", Orthonormal: "gain"}
    if isinstance(law, KaimingUniform):
        return Uniform(bound=spread)
    if isinstance(law, PrincipalComponents):
        return replace(law, largest=f"({_formula(law.largest).text})*({factor})**2")
    return law if isinstance(law, Zero) else replace(law, **{changed[type(law)]: spread})
