"""What the witnesses say: prediction, estimate, measurement, each with the claim it speaks of."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from rsverify.errors import InputError
from rsverify.expressions import Expression
from rsverify.records.claims import Claim


@dataclass(frozen=True)
class Prediction:
    """What the symbolic witness derived.

    Args:
        exponent: power of r in the claim's regime; None where the quantity vanishes identically (see `zero`) or where
            theory gives only a range (see `exponent_range`).
        log_exponent: power of log r beside it.
        formula: the magnitude as a function of r, alpha, gamma, d_in, d_out, lr, x_norm2, v_norm2, cosine and, for laws
            with excess kurtosis, power sums of the data; empty where only the exponent is known.
        exact: whether the formula is exact at every finite r; `error_order` is then "", else e.g. "O(1/r)" relative.
        terms: (a, b, c) of gamma**a * lr**c * r**b, as texts of fractions.
        flat: what the data's invariants that the formula names (`definitions.invariants`) are for flat data.
        signs: those invariants that depend on which signs of the data stand where; `flat_formula` is the magnitude with their products
            averaged over signs at random (a square before its root), None where that mean vanishes or is not written.
    """

    claim: Claim
    exponent: Fraction | None
    log_exponent: Fraction = Fraction(0)
    formula: Expression | None = None
    exact: bool = True
    error_order: str = ""
    zero: bool = False
    exponent_range: tuple[Fraction, Fraction] | None = None
    terms: tuple[tuple[Fraction, Fraction, Fraction], ...] = ()
    rule: Expression | None = None
    notes: tuple[str, ...] = ()
    flat: Mapping[str, Expression] = field(default_factory=dict)
    signs: tuple[str, ...] = ()
    flat_formula: Expression | None = None

    @property
    def expression(self) -> Any:
        """The formula as a sympy expression in positive symbols of the same names."""
        if self.formula is None:
            return None
        import sympy as sp

        return self.formula.to_sympy({name: sp.Symbol(name, positive=name != "cosine", real=True) for name in self.formula.names})

    def at(
        self,
        ranks: Sequence[int],
        *,
        d_in: int,
        d_out: int,
        alpha: float = 1.0,
        lr: float = 1.0,
        x_norm2: float | None = None,
        v_norm2: float = 1.0,
        cosine: float | None = None,
        gamma: Sequence[float] | None = None,
        **data: float,
    ) -> Any:
        """The predicted magnitude at each rank, as an array.

        Args: x_norm2 defaults to d_in and cosine to that of the claim's probe; gamma overrides the rule's values; data
            gives further quantities that the formula names (v_norm1, power sums and contractions of `data_quantities`, sizes
            n_<axis> that a function gives), by default those of flat data: all |x_i|, |x'_i| equal, all |v_j| equal. Where the magnitude
            depends on their signs (`signs`) and none of these is given, it is that of signs at random, the square averaged before its root.
        Raises: InputError where no finite-rank formula exists, or a quantity it needs was not given, or only some of `signs` were.
        """
        import numpy as np

        if self.formula is None:
            raise InputError("this prediction has an exponent but no formula at finite rank")
        r = np.asarray(ranks, dtype=np.float64)
        values: dict[str, Any] = {
            "r": r, "alpha": float(alpha), "d_in": float(d_in), "d_out": float(d_out), "lr": float(lr),
            "x_norm2": float(d_in if x_norm2 is None else x_norm2), "v_norm2": float(v_norm2),
            "cosine": self.claim.cosine if cosine is None else float(cosine), **data,
        }  # fmt: skip
        formula = self.formula
        if self.signs and not any(name in data for name in self.signs) and self.flat_formula is not None:
            formula = self.flat_formula
        for name in formula.names - values.keys():
            if name in self.flat and self.flat[name].names <= values.keys():
                values[name] = self.flat[name].evaluate(values)
            elif name == "v_norm1":
                values[name] = math.sqrt(values["d_out"] * values["v_norm2"])
        if gamma is not None:
            values["gamma"] = np.asarray(gamma, dtype=np.float64)
        elif self.rule is not None:
            values["gamma"] = self.rule.evaluate({"r": r, "alpha": float(alpha)})
        if missing := sorted(formula.names - values.keys()):
            given = [name for name in self.signs if name in data]
            rest = f" beside {', '.join(given)}: their product is averaged over signs as one, so give all of these or none" if given else ""
            raise InputError(f"the formula needs {', '.join(missing)}{rest or '; give them by name'}")
        return np.broadcast_to(np.asarray(formula.evaluate(values), dtype=np.float64), r.shape).copy()


@dataclass(frozen=True)
class Point:
    """A magnitude at one rank with its interval; `rank` is exact even where it is 2**40."""

    rank: int
    value: float
    lo: float
    hi: float

    def __iter__(self) -> Any:
        return iter((self.rank, self.value, self.lo, self.hi))


@dataclass(frozen=True)
class Estimate:
    """What Monte Carlo saw: an exponent with its interval at a level, and the curve behind it.

    `systematic` is the part of the interval's half-width owed to extrapolating finite ranks to the limit; `data` holds
    the sizes and data quantities under which a formula may be compared with the curve (d_in, d_out, alpha, lr, x_norm2, ...).
    `design` says what the sample was designed for: margin or precision, rates of false failures and false passes, and of a
    sequential run the looks taken.
    """

    claim: Claim
    exponent: float | None
    interval: tuple[float, float] | None
    level: float
    curve: tuple[Point, ...]
    draws: int
    engine: str
    systematic: float = 0.0
    zero: bool = False
    data: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    design: Mapping[str, float] = field(default_factory=dict)

    @property
    def ranks(self) -> tuple[int, ...]:
        return tuple(point.rank for point in self.curve)


@dataclass(frozen=True)
class Control:
    """A number that a measurement must show beside its exponent, made by another route than the measurement itself.

    It holds when |value - expected| <= tolerance; where it does not, the row is refuted whatever its exponent.
    """

    name: str
    value: float
    expected: float
    tolerance: float

    @property
    def holds(self) -> bool:
        return abs(self.value - self.expected) <= self.tolerance


@dataclass(frozen=True)
class Measurement:
    """What a real model did: as Estimate, with the values of every seed.

    `per_seed` holds for each seed the magnitudes in the order of the curve's ranks; `marked` are the ranks above the
    smallest width of an adapted layer, where only the effective learning rate grows. `witness` is whom the judge's sentences
    name; `drawn` is the number of draws where they are not kept seed by seed.
    """

    claim: Claim
    exponent: float | None
    interval: tuple[float, float] | None
    level: float
    curve: tuple[Point, ...]
    per_seed: tuple[tuple[float, ...], ...]
    model: str
    marked: tuple[int, ...] = ()
    bracket: tuple[float, float] | None = None
    controls: tuple[Control, ...] = ()
    zero: bool = False
    data: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    witness: str = "the transformer"
    drawn: int = 0

    @property
    def draws(self) -> int:
        return self.drawn or len(self.per_seed)

    @property
    def ranks(self) -> tuple[int, ...]:
        return tuple(point.rank for point in self.curve)
