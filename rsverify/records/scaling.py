"""What the solver answers: the rule that keeps a quantity stable, and the learning rate that other rules need."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from rsverify.errors import RuleError, UnknownName
from rsverify.expressions import Expression
from rsverify.powerlaw import NAMED_RULES, leading_power, refuse_unusable


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
        expression = Expression(NAMED_RULES.get(text, text)).require_names({"r", "alpha"})
        refuse_unusable(expression)
        return -leading_power(expression, "r")
    if not isinstance(rule, bool) and hasattr(rule, "power"):
        return rule.power
    raise RuleError(f"rule={rule!r} is a {type(rule).__name__}: its power of r cannot be read; give it as text, e.g. alpha/sqrt(r)")
