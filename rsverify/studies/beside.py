"""A module with a declaration beside it: is it that, under which rule? Asked of its first gradients before anything is verified."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from rsverify.definitions.registry import as_declared
from rsverify.definitions.rules import ALPHA, ScalingRule, as_rule
from rsverify.definitions.targets import Target, as_target
from rsverify.errors import InputError
from rsverify.montecarlo import estimate
from rsverify.montecarlo.places import place_of
from rsverify.records import Estimate, Point

CANDIDATES = ("alpha/r", "alpha/sqrt(r)", "alpha", "1", "1/r", "1/sqrt(r)")
"""Rules that a module is tried for where it names none, after its declaration's own."""
MARGIN = 0.1
"""How far, in the logarithm of a magnitude, two first gradients may lie apart beside their intervals: rules and algebras differ by more."""
PRECISION = 0.1


@dataclass(frozen=True)
class Apart:
    """How far a module's first gradients are from a declaration's: log ratios with half-widths at two ranks."""

    rule: ScalingRule
    ranks: tuple[int, ...]
    ratios: tuple[float, ...]
    halves: tuple[float, ...]

    @property
    def agree(self) -> bool:
        """Whether they are the same."""
        return all(abs(ratio) <= MARGIN + half for ratio, half in zip(self.ratios, self.halves, strict=True))

    @property
    def alike(self) -> bool:
        """Whether they differ by a constant alone: another spread of the init, under which the powers of the rank are the same."""
        return all(math.isfinite(ratio) for ratio in self.ratios) and max(self.ratios) - min(self.ratios) <= MARGIN + sum(self.halves)

    @property
    def far(self) -> float:
        return max(map(abs, self.ratios))

    @property
    def text(self) -> str:
        return ", ".join(f"by a factor {math.exp(ratio):.3g} at rank {rank}" for rank, ratio in zip(self.ranks, self.ratios, strict=True))


@dataclass(frozen=True)
class Beside:
    """A module with its declaration and rule; `remark` is what must be told first, `same` whether magnitudes may be compared too."""

    target: Target
    same: bool
    remark: str = ""


def beside(
    target: Target, declared: Any, rules: Sequence[ScalingRule] | None, *, alpha: float | None, ranks: Sequence[int] | None
) -> Beside:
    """The module with the declaration that it is to follow, and the rule under which its first gradients move as the declaration's.

    Raises: InputError where the target is a declaration itself, or where the two differ by another power of the rank, with by how much.
    """
    known = as_declared(declared)
    if target.build is None:
        raise InputError(f"declared={known.name!r} is for a module as it is built; {target.name} is a declaration itself")
    named = rules if rules is not None else None if target.rule is None else [as_rule(target.rule)]
    used = alpha if alpha is not None else ALPHA if target.alpha is None else target.alpha
    tried = [as_rule(rule) for rule in dict.fromkeys((known.rule, *CANDIDATES))] if named is None else list(named)
    seen = _gradients(replace(target, declared=None), "1", used, ranks)
    apart = []
    for rule in tried:
        one = _apart(seen, _gradients(as_target(known), rule, used, seen.ranks, like=seen), rule)
        if one.agree:
            return Beside(replace(target, declared=known, rule=rule), same=True)
        apart.append(one)
    nearest = min(apart, key=lambda one: (not one.alike, one.far))
    if nearest.alike:
        remark = (
            f"{target.name} and {known.name} under {nearest.rule.text} differ at the first step {nearest.text} (root mean square of all"
            " gradients): another spread at init. Powers of the rank are compared, magnitudes are not."
        )
        return Beside(replace(target, declared=known, rule=nearest.rule), same=False, remark=remark)
    asked = f"under rule {nearest.rule.text}"
    if named is None:
        asked = f"under any of {', '.join(rule.text for rule in tried)}, the nearest being {nearest.rule.text}"
    raise InputError(
        f"{target.name} is not {known.name} {asked}: they differ at the first step {nearest.text} (root mean square of all gradients); "
        "leave --declared out to judge the module alone, or give the declaration and --rule that it follows"
    )


def _gradients(
    target: Target, rule: ScalingRule | str, alpha: float, ranks: Sequence[int] | None, *, like: Estimate | None = None
) -> Estimate:
    if like is not None:
        ranks, d_in, d_out = like.ranks, int(like.data["d_in"]), int(like.data["d_out"])
    else:
        sizes = place_of(target).sizes
        ranks, d_in, d_out = tuple(ranks or sizes.ranks)[:2], sizes.d_in, sizes.d_out
    return estimate(
        target, rule, quantity="gradient_norm", statistic="frobenius", steps=0, ranks=ranks, alpha=alpha, precision=PRECISION,
        regime="rank", d_in=d_in, d_out=d_out,
    )  # fmt: skip


def _apart(module: Estimate, declared: Estimate, rule: ScalingRule) -> Apart:
    pairs = list(zip(module.curve, declared.curve, strict=True))
    ratios = tuple(math.log(a.value / b.value) if a.value > 0 and b.value > 0 else math.inf for a, b in pairs)
    halves = tuple(_half(a) + _half(b) for a, b in pairs)
    return Apart(rule, module.ranks, ratios, halves)


def _half(point: Point) -> float:
    return math.log(point.hi / point.value) if point.value > 0 and point.hi < math.inf else 0.0
