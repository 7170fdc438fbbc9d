"""Scaling rules: gamma as a function of rank r and alpha, from text in the safe grammar or from a callable."""

from __future__ import annotations

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

    Args: text in the grammar of `expressions` over `r` and `alpha`, e.g. "alpha/sqrt(r)"; or a callable f(r, alpha) -> float.
    Raises: RuleError where a text does not parse or names anything but r and alpha.
    """

    text: str
    function: Callable[[float, float], float] | None

    def __init__(self, rule: ScalingRule | str | Callable[[float, float], float]) -> None:
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
        """The factor at one rank.

        Raises: RuleError where it is zero, negative, complex, not finite, or cannot be computed.
        """
        problem = ""
        value: object = math.nan
        try:
            if self.function:
                value = self.function(float(r), alpha)
            else:
                assert self.expression is not None
                value = self.expression.evaluate({"r": float(r), "alpha": float(alpha)})
        except ZeroDivisionError:
            problem = "divides by zero"
        except (OverflowError, ValueError, TypeError, ArithmeticError) as error:
            problem = f"cannot be computed ({error})"
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
                f'{self._seen_power()}give the rule as text, e.g. "alpha/r**0.75", or ask estimate, which needs no power'
            )
        refuse_unusable(self.expression)
        return -leading_power(self.expression, "r")

    def _seen_power(self) -> str:
        """What the values of a callable suggest; a hint in a message, never an answer."""
        low, high = 2**20, 2**40
        try:
            p = -math.log(self.gamma(high) / self.gamma(low)) / math.log(high / low)
        except RuleError:
            return ""
        return f"From r = 2**20 to 2**40 it goes as r**{-p:.4g}: if that is its law, "

    def __str__(self) -> str:
        return self.text


def _usable(value: object) -> tuple[object, str]:
    if isinstance(value, complex):
        return value, f"is complex ({value:.3g})"
    try:
        number = float(value)  # type: ignore[arg-type]
    except OverflowError:
        return value, "is not finite (too large for a float)"
    except (TypeError, ValueError):
        return value, f"returns {type(value).__name__}, not a number,"
    if math.isnan(number) or math.isinf(number):
        return number, f"is not finite ({number})"
    if number <= 0:
        return number, f"is {'zero' if number == 0 else 'negative'} ({number:g})"
    return number, ""


def rules() -> dict[str, ScalingRule]:
    """The rules that have a name: `lora` is alpha/r, `rslora` alpha/sqrt(r)."""
    return {name: ScalingRule(text) for name, text in NAMED_RULES.items()}


def as_rule(rule: ScalingRule | str | Callable[[float, float], float]) -> ScalingRule:
    """The rule itself, the one of that name, or the one that the text or callable says."""
    if isinstance(rule, ScalingRule):
        return rule
    if isinstance(rule, str):
        if rule.strip() in NAMED_RULES:
            return ScalingRule(NAMED_RULES[rule.strip()])
        if rule.strip().isidentifier() and rule.strip() not in {"r", "alpha"}:
            raise UnknownName("rule", rule.strip(), NAMED_RULES)
    return ScalingRule(rule)
