"""Bounds at every rank up to R, in ball arithmetic: python-flint's arb carries a rigorous radius with every number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sympy as sp

from rsverify.proving.checks import Check, Corruption, Finding, ProofError, Twin

BITS = (64, 256, 1024)
"""Precisions tried in turn; where even the last leaves the balls touching, the step is undecided."""


@dataclass(frozen=True)
class BallBound(Check):
    """A strict inequality at every rank from 1 to R.

    Args: `low < high` in formulas of r with roots, gamma functions, exponentials, logarithms and pi; `corrupted` are pairs that look
        alike and are false somewhere up to R.
    """

    low: sp.Expr
    high: sp.Expr
    r: sp.Symbol
    up_to: int
    corrupted: tuple[tuple[Corruption, tuple[sp.Expr, sp.Expr]], ...]

    @property
    def claimed(self) -> sp.Expr:
        return self.low < self.high

    @property
    def checker(self) -> str:
        return "ball arithmetic (python-flint arb)"

    @property
    def scope(self) -> str:
        return f"r <= {self.up_to}"

    def text(self) -> str:
        return f"{self.low} < {self.high} for {self.r} = 1, ..., {self.up_to}"

    def run(self) -> Finding:
        try:
            import flint
        except ImportError:
            return Finding("skipped", detail="python-flint is not installed: pip install 'rsverify[proofs]'")
        before = flint.ctx.prec
        try:
            for rank in range(1, self.up_to + 1):
                below, balls = self._decide(rank, flint)
                if below is None:
                    return Finding("undecided", detail=f"the balls touch at {self.r} = {rank} with {BITS[-1]} bits: {balls}")
                if not below:
                    return Finding("refuted", f"at {self.r} = {rank}: {balls.replace(' and ', ' is not below ')}")
        finally:
            flint.ctx.prec = before
        return Finding("proved", detail=f"{self.up_to} ranks, {BITS[0]} bits and more where needed")

    def _decide(self, rank: int, flint: Any) -> tuple[bool | None, str]:
        """Whether low < high at one rank, with as many bits as it takes, and both balls in words."""
        low = high = None
        for bits in BITS:
            flint.ctx.prec = bits
            low, high = (_ball(side, self.r, rank, flint) for side in (self.low, self.high))
            if low < high:
                return True, ""
            if low >= high:
                return False, f"{low} and {high}"
        return None, f"{low} and {high}"

    def twins(self) -> tuple[Twin, ...]:
        return tuple(Twin(kind, BallBound(low, high, self.r, self.up_to, ())) for kind, (low, high) in self.corrupted)


def _ball(node: sp.Basic, r: sp.Symbol, rank: int, flint: Any) -> Any:
    if node == r:
        return flint.arb(rank)
    if isinstance(node, sp.Rational):
        return flint.arb(flint.fmpq(int(node.p), int(node.q)))
    if node is sp.pi:
        return flint.arb.pi()
    inside = [_ball(part, r, rank, flint) for part in node.args]
    if isinstance(node, sp.Add | sp.Mul):
        total, *rest = inside
        for value in rest:
            total = total + value if isinstance(node, sp.Add) else total * value
        return total
    if isinstance(node, sp.Pow):
        return inside[0].sqrt() if node.exp == sp.Rational(1, 2) else inside[0] ** inside[1]
    functions = {sp.gamma: "gamma", sp.exp: "exp", sp.log: "log"}
    for kind, name in functions.items():
        if isinstance(node, kind):
            return getattr(inside[0], name)()
    raise ProofError(f"{node} cannot be told to ball arithmetic")
