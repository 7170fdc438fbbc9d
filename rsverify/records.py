"""What the witnesses say and what the judge answers: frozen records, to JSON and back unchanged.

Data flows one way: Claim -> Prediction, Estimate, Measurement -> Row -> Verdict -> report. Nothing here knows how a
number was made; every record knows of what it speaks.
"""

from __future__ import annotations

import json
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from fractions import Fraction
from functools import cache
from typing import Any, Literal, TypeVar, get_args

from rsverify.errors import InputError, RuleError, UnknownName, suggest
from rsverify.expressions import Expression
from rsverify.powerlaw import NAMED_RULES, leading_power

SCHEMA = "rsverify/1"

T = TypeVar("T")

Stability = Literal["stable", "collapses", "explodes", "inconclusive", "zero"]
Agreement = Literal["confirmed", "refuted", "inconclusive"]
Outcome = Literal["holds", "does_not_hold", "inconclusive"]
CheckStatus = Literal["passed", "failed", "xfailed", "xpassed", "skipped", "inconclusive"]
EXIT_CODES: dict[Outcome, int] = {"holds": 0, "does_not_hold": 1, "inconclusive": 3}

PLAIN_QUANTITIES = ("output", "update", "gradient_norm", "input_gradient", "loss_decrease")
STATISTICS = ("rms", "frobenius", "projection", "log")
REGIMES = ("rank", "width")


@dataclass(frozen=True)
class Claim:
    """Of what a number speaks: nothing is stated about an adapter without all of these.

    `adapter`, `init`, `rule`, `optimizer` are names or texts of the registries; `quantity` is one of PLAIN_QUANTITIES or
    `gradient:<factor>`; `probe` is `aligned`, `orthogonal` or `cosine:<c>`; `steps` counts optimizer steps, 0 = at init.
    """

    adapter: str
    init: str
    rule: str
    optimizer: str
    quantity: str = "update"
    statistic: str = "rms"
    probe: str = "aligned"
    regime: str = "rank"
    steps: int = 1

    def __post_init__(self) -> None:
        if self.quantity not in PLAIN_QUANTITIES and not self.quantity.startswith("gradient:"):
            known = (*PLAIN_QUANTITIES, "gradient:<factor>")
            raise InputError(f"quantity={self.quantity!r} is not known{suggest(self.quantity, known)}")
        if self.statistic not in STATISTICS:
            raise InputError(f"statistic={self.statistic!r} is not known{suggest(self.statistic, STATISTICS)}")
        if self.regime not in REGIMES:
            raise InputError(f"regime={self.regime!r} is not known; known are rank (r to infinity), width (width first, then rank)")
        if not isinstance(self.steps, int) or isinstance(self.steps, bool) or self.steps < 0:
            raise InputError(f"steps={self.steps!r}; expected a whole number of optimizer steps, 0 = at init")
        _ = self.cosine

    @property
    def cosine(self) -> float:
        """Cosine between the probe x' and the sample x: 1 aligned, 0 orthogonal."""
        return parse_probe(self.probe)

    @property
    def factor(self) -> str | None:
        """The factor of a `gradient:<factor>` quantity."""
        return self.quantity.partition(":")[2] or None


def parse_probe(text: str) -> float:
    """The cosine that a probe's name stands for."""
    named = {"aligned": 1.0, "orthogonal": 0.0}
    if text in named:
        return named[text]
    kind, _, number = text.partition(":")
    try:
        cosine = float(number) if kind == "cosine" else math.nan
    except ValueError:
        cosine = math.nan
    if not -1.0 <= cosine <= 1.0:
        raise InputError(f"probe={text!r}; expected aligned, orthogonal or cosine:<c> with -1 <= c <= 1")
    return cosine


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
            n_<axis> that a function gives), by default those of flat data: all |x_i|, |x'_i| equal, all |v_j| equal, signs at random.
        Raises: InputError where no finite-rank formula exists or a quantity it needs was not given.
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
        for name in self.formula.names - values.keys():
            if name in self.flat and self.flat[name].names <= values.keys():
                values[name] = self.flat[name].evaluate(values)
            elif name == "v_norm1":
                values[name] = math.sqrt(values["d_out"] * values["v_norm2"])
        if gamma is not None:
            values["gamma"] = np.asarray(gamma, dtype=np.float64)
        elif self.rule is not None:
            values["gamma"] = self.rule.evaluate({"r": r, "alpha": float(alpha)})
        missing = sorted(self.formula.names - values.keys())
        if missing:
            raise InputError(f"the formula needs {', '.join(missing)}; give them by name")
        return np.broadcast_to(np.asarray(self.formula.evaluate(values), dtype=np.float64), r.shape).copy()


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
    smallest width of an adapted layer, where only the effective learning rate grows.
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

    @property
    def draws(self) -> int:
        return len(self.per_seed)

    @property
    def ranks(self) -> tuple[int, ...]:
        return tuple(point.rank for point in self.curve)


@dataclass(frozen=True)
class Row:
    """One line of the table: a claim, what each witness said, and the judgement."""

    claim: Claim
    headline: bool
    predicted: Prediction | None
    estimated: Estimate | None
    measured: Measurement | None
    silent: Mapping[str, str]
    margin: float
    stability: Stability
    agreement: Agreement
    reason: str
    meaning: str = ""


@dataclass(frozen=True)
class Provenance:
    """How a result was made: versions, seeds, device, commit, hashes; no user, no host, no path."""

    version: str
    python: str
    packages: Mapping[str, str]
    platform: str
    device: str
    seed: int
    commit: str | None = None
    hashes: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    created: str = ""


@dataclass(frozen=True)
class Verdict:
    """The table with its outcome; `complete` is False where work was interrupted."""

    verdict: Outcome
    complete: bool
    rows: tuple[Row, ...]
    provenance: Provenance
    question: str = ""
    sentence: str = ""
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.verdict]

    @property
    def stability(self) -> tuple[Stability, ...]:
        """Stability of every row, in the order of the rows."""
        return tuple(row.stability for row in self.rows)

    @property
    def agreement(self) -> tuple[Agreement, ...]:
        """Agreement of every row, in the order of the rows."""
        return tuple(row.agreement for row in self.rows)


@dataclass(frozen=True)
class CheckResult:
    """What one conformance check said of one subject."""

    name: str
    status: CheckStatus
    reason: str = ""
    exception: str | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class StableScaling:
    """What the solver answers: which power p of the rule r**-p keeps a quantity stable.

    `rule_exponent` is None unless `status` is `unique` (`interval` carries `rule_interval`); `terms` are the (a, b, c)
    of gamma**a * lr**c * r**b whose largest power decides.
    """

    adapter: str
    optimizer: str
    quantity: str
    rule_exponent: Fraction | None
    status: Literal["unique", "interval", "any", "none"]
    terms: tuple[tuple[Fraction, Fraction, Fraction], ...]
    rule_interval: tuple[Fraction | None, Fraction | None] | None = None
    explanation: tuple[str, ...] = ()

    def lr_exponent(self, rule: Any) -> Fraction | None:
        """The power q of lr ~ r**q that makes a given rule stable; None where no learning rate enters.

        Args: rule is a ScalingRule (or anything with `.power`, its decay exponent p), its text or name, or p itself.
        Raises: RuleError where the rule has no power law in r.
        """
        p = decay_exponent(rule)
        bound = [(a * p - b) / c for a, b, c in self.terms if c]
        still = [b - a * p for a, b, c in self.terms if not c]
        if not bound or any(value > 0 for value in still):
            return None
        return min(bound)

    def exponent(self, rule: Any, lr_exponent: Fraction | int = 0) -> Fraction | None:
        """The power of r that the quantity grows with under a rule and lr ~ r**lr_exponent; None where it vanishes."""
        p = decay_exponent(rule)
        return max((b - a * p + c * Fraction(lr_exponent) for a, b, c in self.terms), default=None)


def decay_exponent(rule: Any) -> Fraction:
    """p of gamma ~ r**-p, of a rule given as p itself, as text or name, or as anything with `.power`.

    Raises: RuleError where there is no power law in r; UnknownName.
    """
    if isinstance(rule, int | float | Fraction) and not isinstance(rule, bool):
        return Fraction(rule).limit_denominator(10**6)
    if isinstance(rule, str):
        text = rule.strip()
        if text.isidentifier() and text not in {"r", "alpha", *NAMED_RULES}:
            raise UnknownName("rule", text, NAMED_RULES)
        return -leading_power(Expression(NAMED_RULES.get(text, text)).require_names({"r", "alpha"}), "r")
    if not isinstance(rule, bool) and hasattr(rule, "power"):
        return rule.power
    raise RuleError(f"rule={rule!r} is a {type(rule).__name__}: its power of r cannot be read; give it as text, e.g. alpha/sqrt(r)")


def to_json(record: Any) -> Any:
    """A record as plain JSON data: fractions as texts, tuples as lists, formulas as their text."""
    if isinstance(record, Expression):
        return record.text
    if isinstance(record, Fraction):
        return str(record)
    if is_dataclass(record) and not isinstance(record, type):
        return {f.name: to_json(getattr(record, f.name)) for f in fields(record)}
    if isinstance(record, Mapping):
        return {str(key): to_json(value) for key, value in record.items()}
    if isinstance(record, list | tuple):
        return [to_json(value) for value in record]
    if isinstance(record, float) and not math.isfinite(record):
        return str(record)
    scalar: Any = record
    return to_json(scalar.item()) if getattr(record, "ndim", None) == 0 else record


def from_json(cls: type[T], data: Any) -> T:
    """The record that `to_json` wrote, equal to the original."""
    return _restore(cls, data)


def dumps(record: Any) -> str:
    return json.dumps(to_json(record), indent=2, allow_nan=False)


def loads(cls: type[T], text: str) -> T:
    return from_json(cls, json.loads(text))


@cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _restore(kind: Any, data: Any) -> Any:
    origin = typing.get_origin(kind)
    if kind is Any:
        return data
    if origin is Literal:
        return data
    if origin in (typing.Union, types.UnionType):
        if data is None:
            return None
        return _restore(next(k for k in get_args(kind) if k is not type(None)), data)
    if origin is tuple:
        inner = get_args(kind)
        if len(inner) == 2 and inner[1] is Ellipsis:
            return tuple(_restore(inner[0], value) for value in data)
        return tuple(_restore(k, value) for k, value in zip(inner, data, strict=True))
    if origin is not None and issubclass(origin, Mapping):
        value_kind = get_args(kind)[1]
        return {key: _restore(value_kind, value) for key, value in data.items()}
    if kind is Fraction:
        return Fraction(data)
    if kind is Expression:
        return Expression(data)
    if kind is float:
        return float(data)
    if is_dataclass(kind):
        make = typing.cast(type, kind)
        hints = _hints(make)
        return make(**{f.name: _restore(hints[f.name], data[f.name]) for f in fields(kind) if f.name in data})
    return data
