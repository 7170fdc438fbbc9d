"""Assertions about a rule itself, rank by rank: its values, its dependence on alpha, its direction. Nothing is simulated.

    assert_scale(my_rule, "alpha/sqrt(r)")

A simulation sees a rule at the ranks that it simulates. These look at every rank up to a thousand and at chosen ones beyond, powers of
two, their neighbours and primes among them; what they find is the least rank at which the claim breaks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Literal

from rsverify.definitions.ranks import parse_ranks
from rsverify.definitions.rules import ScalingRule, as_rule
from rsverify.errors import InputError
from rsverify.testing.statements import Statement, announce

Rule = ScalingRule | str | Callable[[int, float], float]

DENSE = 1024
"""Every rank up to here is looked at."""

BEYOND = (1025, 1031, 1536, 2047, 2048, 2049, 3001, 4095, 4096, 4097, 5000, 8191, 8192, 8193, 10007, 16383, 16384, 32768, 65521, 65536)
"""Ranks beyond: powers of two, their neighbours, primes, multiples of a thousand."""

ALPHAS = (20.5, 7.5, 2000.0, 1.0)
"""Values of alpha, a whole one and fractions, the first being no rank and no multiple of one."""

ROUNDING = 1e-9
"""Relative error that two ways of computing a rule may differ by: a million roundings."""


def assert_scale(
    rule: Rule, expected: Rule, *, ranks: str | Sequence[int] | None = None, alphas: Sequence[float] = ALPHAS,
    d_in: int = 24, d_out: int = 16, rel: float = ROUNDING,
) -> None:  # fmt: skip
    """The rule's value is that of another at every rank and alpha: no power of two, no special case, no rounding in between.

    Args: ranks, by default all to 1024 and some to 65536; rel is the relative error allowed; d_in, d_out for rules that need widths.
    Raises: AssertionError with the least rank at which they differ, both values and what their ratio usually means; RuleError where
        the rule cannot be computed.
    """
    ours, theirs = (as_rule(one).bound(d_in, d_out) for one in (rule, expected))
    claim = f"rule {ours} is {theirs}"

    def wrong(r: int, alpha: float) -> str | None:
        value, wanted = ours.gamma(r, alpha), theirs.gamma(r, alpha)
        if math.isclose(value, wanted, rel_tol=rel):
            return None
        return f"{value:.6g}, expected {wanted:.6g}: it is {_ratio(ours, theirs, r, alphas)}"

    _over(claim, wrong, ranks, alphas)


def assert_linear_in_alpha(
    rule: Rule, *, ranks: str | Sequence[int] | None = None, alphas: Sequence[float] = ALPHAS, d_in: int = 24, d_out: int = 16,
    rel: float = ROUNDING,
) -> None:  # fmt: skip
    """Three times alpha is three times the scale, at every rank: alpha is neither ignored, rounded nor cut off.

    Arguments and errors as `assert_scale`.
    """
    asked = as_rule(rule).bound(d_in, d_out)

    def wrong(r: int, alpha: float) -> str | None:
        one, three = asked.gamma(r, alpha), asked.gamma(r, 3 * alpha)
        if math.isclose(three, 3 * one, rel_tol=rel):
            return None
        why = ": alpha is ignored" if three == one else ""
        return f"{one:.6g}, and {three:.6g} at alpha={3 * alpha:g}, {three / one:.4g} times as much{why}"

    _over(f"rule {asked} is linear in alpha", wrong, ranks, alphas)


def assert_monotone(
    rule: Rule, *, direction: Literal["falling", "rising"] = "falling", ranks: str | Sequence[int] | None = None,
    alphas: Sequence[float] = ALPHAS, d_in: int = 24, d_out: int = 16,
) -> None:  # fmt: skip
    """From each rank to the next the scale never rises (or, with direction="rising", never falls): no step, no special rank.

    Arguments and errors as `assert_scale`; the ranks are compared each with the next one asked for, by default r with r + 1.
    """
    if direction not in ("falling", "rising"):
        raise InputError(f"direction={direction!r}; expected falling or rising")
    asked = as_rule(rule).bound(d_in, d_out)
    given = _ranks(ranks)
    following = dict(pairwise(given))

    def wrong(r: int, alpha: float) -> str | None:
        next_rank = following.get(r, r)
        now, then = asked.gamma(r, alpha), asked.gamma(next_rank, alpha)
        off = then > now * (1 + ROUNDING) if direction == "falling" else then < now * (1 - ROUNDING)
        return f"{now:.6g}, and {then:.6g} at r={next_rank}" if off else None

    _over(f"rule {asked} is {direction} in the rank", wrong, ranks, alphas)


def _ranks(ranks: str | Sequence[int] | None) -> tuple[int, ...]:
    return (*range(1, DENSE + 1), *BEYOND) if ranks is None else parse_ranks(ranks)


def _over(claim: str, wrong: Callable[[int, float], str | None], ranks: str | Sequence[int] | None, alphas: Sequence[float]) -> None:
    """Ask at every rank and alpha, and tell of the least rank at which the answer is not None."""
    given = _ranks(ranks)
    if not alphas or not all(math.isfinite(alpha) and alpha > 0 for alpha in alphas):
        raise InputError(f"alphas={list(alphas)!r}; expected positive numbers, e.g. [20.5, 7.5]")
    for r in given:
        for alpha in alphas:
            if wrong(r, alpha) is None:
                continue
            least = next(_before(r, given, wrong, alpha, dense=ranks is None), r)
            text = f"{claim}: at r={least}, alpha={alpha:g} it is {wrong(least, alpha)}"
            announce(Statement(text, "refuted"))
            raise AssertionError(f"does not hold: {text}")
    announce(Statement(f"{claim}, at {len(given)} ranks from {given[0]} to {given[-1]} and alpha {', '.join(f'{a:g}' for a in alphas)}",
                       "confirmed"))  # fmt: skip


def _before(r: int, given: Sequence[int], wrong: Callable[[int, float], str | None], alpha: float, *, dense: bool) -> Iterator[int]:
    """Smaller ranks at which it is wrong too, between the last one that was right and this one."""
    if dense and r > DENSE:
        right = given[given.index(r) - 1]
        yield from (rank for rank in range(right + 1, r) if wrong(rank, alpha) is not None)


def _ratio(ours: ScalingRule, theirs: ScalingRule, r: int, alphas: Sequence[float]) -> str:
    from rsverify.conformance.diagnose import explain

    ratios = {(r, alpha): ours.gamma(r, alpha) / theirs.gamma(r, alpha) for alpha in alphas[:2]}
    return f"off by {explain(ratios)}"
