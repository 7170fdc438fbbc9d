"""What SGD on LoRA becomes as the rank grows: full fine-tuning at a learning rate of its own in every module, or no training.

After one step from B = 0 the adapter's weight is -gamma**2 lr v x'S with S = A'A. Its mean is a step of full fine-tuning; its spread
about the mean says how fast that is approached. Both are read off derived magnitudes; that the same holds after any number of steps,
with the signals following the weights, is the lemma full-finetuning-limit in `proofs/`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import sympy as sp

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.claims import setting
from rsverify.definitions.laws import Frozen, Zero
from rsverify.definitions.optimizers import Optimizer, as_optimizer
from rsverify.definitions.rules import ScalingRule
from rsverify.errors import InputError, NotDerivable
from rsverify.expressions import Expression
from rsverify.symbolic.answers.witness import derive
from rsverify.symbolic.moments import symbols as s

Kind = Literal["full fine-tuning", "no training", "unbounded"]

_ALPHA = sp.Symbol("alpha", positive=True)


@dataclass(frozen=True)
class LimitOfRank:
    """What SGD on an adapter becomes as the rank grows.

    Args:
        kind: what the limit is.
        rate: learning rate of the full fine-tuning step that one adapter step is in the mean, at rank r.
        exponent: the power of r in it.
        limit: the rate in the limit, in alpha, lr and the widths; 0 for no training, None where it is unbounded.
        distance: root mean square distance of one step's weight from its mean, over the size of the mean, at rank r.
        approach: the power of r at which that distance falls.
    """

    adapter: str
    init: str
    rule: str
    kind: Kind
    rate: Expression
    exponent: Fraction
    limit: Expression | None
    distance: Expression
    approach: Fraction

    def learning_rate(self, *, alpha: float, lr: float, d_in: int, d_out: int, r: float | None = None) -> float:
        """The learning rate at which full fine-tuning of a module moves as the adapter does.

        Args: at rank r, or in the limit where r is None.
        Raises: InputError where the limit is unbounded.
        """
        formula = self.limit if r is None else self.rate
        if formula is None:
            raise InputError(f"rule={self.rule!r}: the effective learning rate grows as r**({self.exponent}) and has no limit; give r")
        values = {"alpha": alpha, "lr": lr, "d_in": d_in, "d_out": d_out, **({} if r is None else {"r": r})}
        return float(formula.evaluate({name: float(value) for name, value in values.items()}))

    def by_module(self, shapes: Mapping[str, tuple[int, int]], *, alpha: float, lr: float, r: float | None = None) -> dict[str, float]:
        """That learning rate for every module, from the shapes (d_out, d_in) of its weights: fan-in decides under Kaiming's init."""
        return {name: self.learning_rate(alpha=alpha, lr=lr, d_in=d_in, d_out=d_out, r=r) for name, (d_out, d_in) in shapes.items()}

    def relative_distance(self, r: float, *, d_in: int, d_out: int) -> float:
        """Root mean square distance of one step from the step of full fine-tuning at `rate`, over the size of that step."""
        return float(self.distance.evaluate({"r": float(r), "d_in": float(d_in), "d_out": float(d_out)}))


def limit_of_rank(
    adapter: Adapter | str, rule: ScalingRule | str | Callable[[int, float], float], *, optimizer: Optimizer | str = "sgd"
) -> LimitOfRank:
    """What SGD on a two-factor adapter with its up-factor at zero becomes as the rank grows at fixed widths.

    With momentum the limit is full fine-tuning with the same momentum.

    Raises: NotDerivable for other structures, inits and optimizers, with the reason; RuleError where the rule has no power law.
    """
    used = as_optimizer(optimizer)
    asked = setting(adapter, rule, optimizer=used)
    _refuse_others(asked.adapter, used)

    def formula(quantity: str, statistic: str) -> Any:
        found = derive(asked.adapter, asked.rule, optimizer=used, quantity=quantity, statistic=statistic)
        if found.formula is None:
            raise NotDerivable(f"the {quantity} of {asked.adapter.name!r} has no closed form (its exponent alone is known)")
        return found.formula.to_sympy({name: getattr(s, name, sp.Symbol(name, real=True)) for name in found.formula.names})

    # The mean step on the sample itself: along -v, of length rate |v| |x|^2.
    in_gamma = sp.simplify(formula("update", "projection") / (sp.sqrt(s.v_norm2) * s.x_norm2))
    passed = formula("input_gradient", "frobenius") ** 2 / formula("input_gradient", "projection") ** 2
    distance2 = sp.factor(sp.cancel(sp.expand(passed)) - 1)
    if leftover := (in_gamma.free_symbols | distance2.free_symbols) - {s.r, s.gamma, s.lr, s.d_in, s.d_out}:
        raise NotDerivable(
            f"the mean step of {asked.adapter.name!r} is no step of full fine-tuning: it depends on {min(map(str, leftover))}"
        )
    assert asked.rule.expression is not None, "a rule without a formula has no power and was refused"
    rate = sp.simplify(in_gamma.subs(s.gamma, asked.rule.expression.to_sympy({"r": s.r, "alpha": _ALPHA})))
    exponent = derive(asked.adapter, asked.rule, optimizer=used, statistic="projection").exponent
    assert exponent is not None, "a mean step that vanishes was refused"
    kind: Kind = "full fine-tuning" if exponent == 0 else "no training" if exponent < 0 else "unbounded"
    return LimitOfRank(
        adapter=asked.adapter.name,
        init=asked.claim.init,
        rule=asked.claim.rule,
        kind=kind,
        rate=_written(rate),
        exponent=exponent,
        limit=None if exponent > 0 else _written(sp.limit(rate, s.r, sp.oo)),
        distance=_written(sp.sqrt(distance2)),
        approach=_power(distance2) / 2,
    )


def _refuse_others(adapter: Adapter, optimizer: Optimizer) -> None:
    if (
        optimizer.name not in ("sgd", "momentum")
        or any(optimizer.option(name) for name in ("weight_decay", "clip"))
        or optimizer.option("lr_ratio") != 1
    ):
        raise NotDerivable(
            f"the limit of large rank is derived for SGD without decay or clipping; {optimizer.text} moves the factors otherwise"
        )
    rows, columns = adapter.result
    names = {frozenset(axes): name for name, axes in adapter.operands.items()}
    rank = adapter.rank_axes[0]
    up = names.get(frozenset((*rows, rank)))
    if len(rows) != 1 or len(columns) != 1 or len(names) != 2 or up is None or frozenset((rank, *columns)) not in names:
        raise NotDerivable(
            f"the limit of large rank is derived for two factors, up times down, and {adapter.expression!r} has another structure"
        )
    law = adapter.laws[up]
    if not isinstance(law, Zero) or isinstance(law, Frozen):
        raise NotDerivable(f"the limit of large rank is derived where {up} is zero at init and trained; here it is {law.text()}")


def _written(expression: sp.Expr) -> Expression:
    """An expression in the package's language, whose function names are small."""
    return Expression(re.sub(r"\b(Abs|Max|Min)\(", lambda name: name[0].lower(), str(expression)))


def _power(expression: sp.Basic) -> Fraction:
    """The power of r of a rational function as r grows: the degree of its numerator less that of its denominator."""
    top, bottom = sp.fraction(sp.together(expression))
    return Fraction(int(sp.Poly(top, s.r).degree()) - int(sp.Poly(bottom, s.r).degree()))
