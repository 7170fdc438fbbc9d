"""Muon on real batches: what orthogonalising adds where the layer's gradient has more than one direction.

One sample gives a gradient of rank one, which plain Muon divides by its norm. A batch gives dL/dW of some stable rank R, and the
gradient of B is gamma (dL/dW) A', of stable rank about min(r, R) once A is random. Orthogonalised, its <D, G> is the nuclear norm:
between |G| and sqrt(min(r, R)) |G|, with |G| of the power that one sample has.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import sympy as sp

from rsverify.definitions.optimizers import Optimizer
from rsverify.symbolic.moments import symbols as s
from rsverify.symbolic.steps.magnitude import Magnitude

SHAPE = "the factor sqrt(max(1, rows/columns)) cancels a growth as sqrt(r) up to the rank that equals the other width of the factor"

stable_rank = sp.Symbol("R", positive=True)


def batch_note() -> str:
    """What a batch changes, in words."""
    return (
        "a gradient of one sample has rank one; for a batch whose gradient at the layer has stable rank R the nuclear norm decides: up to"
        f" sqrt(min(r, R)) times more, so a power {batch_gain(below=True)} of r more for r far below R, and {batch_gain(below=False)} more"
        " for r far above; the crossover is at r = R"
    )


def remarked(found: Magnitude, optimizer: Optimizer, *, rank_one: bool) -> Magnitude:
    """A magnitude with what must be said of Muon; `rank_one` where the factor's gradient on one sample has rank one."""
    if optimizer.name not in ("muon", "muon-torch"):
        return found
    said = [batch_note()] * rank_one + [SHAPE] * (optimizer.name == "muon-torch")
    return replace(found, notes=(*found.notes, *said))


def batch_gain(*, below: bool) -> Fraction:
    """The power of r that orthogonalising a batch gradient adds: for r far below the stable rank R, or far above."""
    gain = sp.sqrt(s.r if below else stable_rank)
    return Fraction(str(gain.as_coeff_exponent(s.r)[1]))
