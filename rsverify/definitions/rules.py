"""Scaling rules: gamma as a function of rank r and alpha, from text in the safe grammar or from a callable."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from rsverify.errors import InputError, RuleError, UnknownName
from rsverify.expressions import Expression
from rsverify.powerlaw import LARGEST, NAMED_RULES, SMALLEST, leading_power, refuse_unusable

ALPHA = 20.0
"""Default alpha: no rank in use equals it, because r == alpha hides scaling bugs."""


@dataclass(frozen=True, init=False)
class ScalingRule:
    """gamma(r, alpha), the factor in front of an adapter: `ScalingRule("alpha/r")(16, 32.0)` is 2.

    Args: text in the grammar of `expressions` over `r` and `alpha`, e.g. "alpha/sqrt(r)"; or a callable f(r, alpha) -> float, r a whole
        number, or f(r, alpha, d_in, d_out) where it needs the layer's widths.
    Raises: RuleError where a text does not parse or names anything but r and alpha.
    """

    text: str
    function: Callable[[int, float], float] | None

    def __init__(self, rule: ScalingRule | str | Callable[[int, float], float]) -> None:
        if isinstance(rule, ScalingRule):
            rule = rule.function or rule.text
        if callable(rule):
            text = getattr(rule, "__name__", type(rule).__name__)
            object.__setattr__(self, "text", "callable" if text == "<lambda>" else text)
            object.__setattr__(self, "function", rule)
            return
        object.__setattr__(self, "text", rule.strip() if isinstance(rule, str) else rule)
        object.__setattr__(self, "function", None)
        try:
            _ = self.expression
        except InputError as error:
            raise RuleError(f"rule={rule!r} is not a scaling rule: {error}") from None

    @cached_property
    def expression(self) -> Expression | None:
        """The formula, or None for a callable."""
        return None if self.function else Expression(self.text).require_names({"r", "alpha"})

    def gamma(self, r: int, alpha: float = ALPHA) -> float:
        """The factor at one rank; a callable gets the rank as a whole number, as its author writes it.

        Raises: RuleError where it is no number, zero, negative, complex, not finite, or cannot be computed; the callable's own
            exception is its cause.
        """
        if self.needs_widths:
            raise RuleError(
                f"rule={self.text!r} needs the layer's widths, which are not given here; rule.bound(d_in, d_out) is the rule on one"
            )
        problem = ""
        value: object = math.nan
        try:
            if self.function:
                value = self.function(int(r) if r == int(r) else r, alpha)
            else:
                assert self.expression is not None
                value = self.expression.evaluate({"r": float(r), "alpha": float(alpha)})
        except ZeroDivisionError:
            problem = "divides by zero"
        except Exception as error:
            cause = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            where = "raised by the rule itself" if self.function else "too large or undefined"
            raise RuleError(
                f"rule={self.text!r} cannot be computed at r={r}, alpha={alpha:g}: {cause} ({where}); expected a positive finite number at"
                " every rank asked for"
            ) from error
        if not problem:
            value, problem = _usable(value)
        if problem:
            raise RuleError(
                f"rule={self.text!r} {problem} at r={r}, alpha={alpha:g}; expected a positive finite number at every rank asked for"
            )
        assert isinstance(value, float)
        return value

    __call__ = gamma

    def at(self, ranks: Sequence[int], alpha: float = ALPHA) -> list[float]:
        """The factor at each rank, refused before work starts where one of them is of no use, or out of the range that is computed with."""
        factors = [self.gamma(r, alpha) for r in ranks]
        for r, factor in zip(ranks, factors, strict=True):
            if not SMALLEST <= factor <= LARGEST:
                raise RuleError(
                    f"rule={self.text!r} is {factor:.3g} at r={r}, alpha={alpha:g}: its powers leave the range of floats, so that what is"
                    f" there would look like nothing; expected between {SMALLEST:g} and {LARGEST:g}: take another alpha or smaller ranks"
                )
        return factors

    @cached_property
    def power(self) -> Fraction:
        """p, where gamma ~ r**-p as r grows.

        Raises: RuleError for callables and for texts without a power law (logarithms, exponentials).
        """
        if self.expression is None:
            raise RuleError(
                f"rule={self.text!r} is a callable: its power of r cannot be read off, and no finite number of values proves one. "
                'give the rule as text, e.g. "alpha/r**0.75", or ask estimate, which needs no power'
            )
        refuse_unusable(self.expression)
        return -leading_power(self.expression, "r")

    @cached_property
    def needs_widths(self) -> bool:
        """Whether the callable is f(r, alpha, d_in, d_out): then it is `bound` to a layer's widths before it is asked."""
        if self.function is None:
            return False
        try:
            signature = inspect.signature(self.function)
            signature.bind(1, 1.0)
        except ValueError:  # a built-in without a signature: its call will tell
            return False
        except TypeError:
            return _binds(self.function, 4)
        return False

    def bound(self, d_in: int, d_out: int) -> ScalingRule:
        """The rule on a layer of these widths; itself where it asks for none."""
        if not self.needs_widths:
            return self
        function = self.function
        assert function is not None

        def on_a_layer(r: int, alpha: float) -> float:
            return function(r, alpha, d_in, d_out)  # type: ignore[call-arg]

        on_a_layer.__name__ = f"{self.text} at d_in={d_in}, d_out={d_out}"
        return ScalingRule(on_a_layer)

    def __str__(self) -> str:
        return self.text


def _binds(function: Callable[..., object], count: int) -> bool:
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError:
        return False
    return True


def _usable(value: object) -> tuple[object, str]:
    if isinstance(value, complex):
        return value, f"is complex ({value:.3g})"
    several = getattr(value, "shape", ()) not in ((), None)
    kind = type(value).__name__
    if isinstance(value, bool | str | bytes) or kind in ("bool_", "bool") or several or not hasattr(value, "__float__"):
        shown = f" (of shape {tuple(getattr(value, 'shape', ()))})" if several else "" if value is None else f" ({str(value)[:40]!r})"
        return value, f"returns {kind}, not a number{shown},"
    try:
        number = float(value)  # type: ignore[arg-type]
    except OverflowError:
        return value, "is not finite (too large for a float)"
    except (TypeError, ValueError) as error:
        return value, f"returns {kind}, not a number ({error}),"
    if math.isnan(number) or math.isinf(number):
        return number, f"is not finite ({number})"
    if number <= 0:
        return number, f"is {'zero' if number == 0 else 'negative'} ({number:g})"
    return number, ""


def rules() -> dict[str, ScalingRule]:
    """The rules that have a name: `lora` is alpha/r, `rslora` alpha/sqrt(r)."""
    return {name: ScalingRule(text) for name, text in NAMED_RULES.items()}


def as_rule(rule: ScalingRule | str | Callable[[int, float], float]) -> ScalingRule:
    """The rule itself, the one of that name, or the one that the text or callable says."""
    if isinstance(rule, ScalingRule):
        return rule
    if isinstance(rule, str):
        if rule.strip() in NAMED_RULES:
            return ScalingRule(NAMED_RULES[rule.strip()])
        if rule.strip().isidentifier() and rule.strip() not in {"r", "alpha"}:
            raise UnknownName("rule", rule.strip(), NAMED_RULES)
    return ScalingRule(rule)
