"""Adapters that are not multilinear, to leading order in the learning rate: their multilinear core, and what the wrapping adds to it.

Each is read at its init, where what is not multilinear has a first order: DoRA's row norm is a constant of the backward pass, and its
magnitude moves by itself; DeLoRA's lengths of B are at their clamp; PiSSA and OLoRA have factors of a Gaussian base weight; FourierFT's
places are drawn without replacement. Powers of r are answered, up to constants free of r; no curve is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import sympy as sp

from rsverify.definitions.optimizers import Optimizer
from rsverify.definitions.wrapped import WrappedAdapter
from rsverify.errors import NotDerivable
from rsverify.records import Claim
from rsverify.symbolic.moments import symbols as s
from rsverify.symbolic.steps.later import leading_in_lr
from rsverify.symbolic.steps.magnitude import Magnitude
from rsverify.symbolic.steps.scalarsteps import SIGN_LIKE, first_factor

Core = Callable[[Claim], Magnitude]
"""The magnitude of a claim on the multilinear core."""

DORA = (
    "to leading order in lr the rows' norm is a constant: the low-rank part moves as LoRA's with the part along each row of W taken off;"
    " the magnitude m moves by itself, by an amount that no gamma scales"
)
DELORA = (
    "to leading order in lr, while no column of B is longer than the clamp 1e-4: LoRA with rows of A of unit length; beyond it every"
    " rank-one part has unit length and the update is gamma times their number (aligned) or its root, whatever the rate"
)
PISSA = (
    "the rank is at most min(d_in, d_out): the power is that far below the widths. For a Gaussian base weight the largest singular values"
    " are alike to O((r/d)**(2/3)) (Marchenko and Pastur): flat components"
)
OLORA = (
    "the rank is at most min(d_in, d_out): the power is that far below the widths. For a Gaussian base weight Q is a uniform frame and the"
    " rows of R are independent but for zeros before their diagonals: to O(r/d) the second moments are those of two frames up to constants"
    " free of r"
)
BELOW_THE_WIDTHS = ("pissa", "olora")
"""Adapters of which at fixed widths no power is left, and the power is read with the widths grown first whatever regime is asked for."""
FOURIERFT = (
    "places drawn without replacement leave the waves exchangeable: powers of r are those of independent waves for r far below the d_in"
    " d_out places"
)


def magnitude(adapter: WrappedAdapter, optimizer: Optimizer, claim: Claim, core: Core) -> Magnitude:
    """The claim's magnitude, gamma left open.

    Raises: NotDerivable with the reason, that of the declaration where nothing is known of it here.
    """
    if adapter.name not in _KNOWN:
        raise NotDerivable(f"of adapter {adapter.name!r}, {adapter.reason}", adapter.core)
    try:
        return _KNOWN[adapter.name](optimizer, claim, core)
    except NotDerivable as error:
        raise NotDerivable(error.reason, adapter.core) from error


def _powers(part: Magnitude, order: str, note: str) -> Magnitude:
    """A core's magnitude of which only the powers of r are claimed."""
    above = part.value if part.upper is None else part.upper
    return replace(part, exact=False, error_order=order, upper=above, notes=(note, *part.notes))


def _leading(part: Magnitude, claim: Claim) -> tuple[Any, Any]:
    """Lower and upper magnitude to leading order in the learning rate; equal where the core's is known.

    Raises: NotDerivable where the core has an epsilon beside its gradient.
    """
    if part.large is not None:
        raise NotDerivable("an epsilon beside the gradient: what the wrapping adds is not written for both of its regimes")
    if claim.steps == 0:
        return part.value, part.value if part.upper is None else part.upper
    below = leading_in_lr(part.value)
    return below, below if part.upper is None else part.upper


def _aligned(claim: Claim, core: Core) -> Magnitude:
    """The claim at the sample itself; the cosine is put in, since the answer is read at the claim's own."""
    part = core(replace(claim, probe="aligned"))
    upper = part.upper if part.upper is None else part.upper.subs(s.cosine, 1)
    return replace(part, value=part.value.subs(s.cosine, 1), upper=upper)


def _dora(optimizer: Optimizer, claim: Claim, core: Core) -> Magnitude:
    kind = claim.quantity.partition(":")[0]
    if kind == "gradient":
        return _powers(core(claim), "O(lr)", DORA)
    if claim.statistic == "projection":
        raise NotDerivable("the mean motion of DoRA has a part of the magnitude's that follows the base weight: ask for the rms")
    if claim.regime == "width":
        raise NotDerivable("with the widths grown first DoRA's two parts have different powers of the width; ask for regime='rank'")
    moves = claim.steps > 0
    if moves and optimizer.name == "normalized-sgd":
        raise NotDerivable("normalized-sgd divides B's and m's gradients by their norm together, whose larger part depends on the rule")
    if moves and optimizer.name in ("muon", "muon-torch"):
        raise NotDerivable(f"factor m has 1 axes: only a matrix can be orthogonalised by {optimizer.name}")
    if kind == "output" and not moves:
        return core(claim)  # nothing is added at init
    part = core(claim)
    below, above = _leading(part, claim)
    if kind in ("output", "update") and abs(claim.cosine) < 1:
        # (A w)(w . x'), w a row's direction: sample and probe meet through the base weight, which shows where r passes the width.
        tied = _leading(_aligned(claim, core), claim)
        above = above + tied[1] / s.d_in**2
    sign = optimizer.name in SIGN_LIKE
    rate = s.lr * (first_factor(optimizer) if sign else 1)
    along = s.x_norm2 / s.d_in  # (w . x)**2
    own = {
        "output": rate**2 * (s.d_out * along if sign else s.v_norm2 * along**2),
        "update": rate**2 * (s.d_out * along if sign else s.v_norm2 * along**2),
        "input_gradient": rate**2 * (s.v_norm2 if sign else s.v_norm2**2 * along / s.d_in),
        "loss_decrease": rate**2 * (s.v_norm1**2 * along if sign else (s.v_norm2 * along) ** 2),
        "gradient_norm": s.v_norm2 * along,
    }[kind]
    entries = 1
    if claim.statistic == "rms":
        entries = {"output": s.d_out, "update": s.d_out, "input_gradient": s.d_in}.get(kind, 1)
    above = sp.expand(above + own / entries)
    return Magnitude(sp.expand(below + own / entries), True, False, "O(lr)", above, (DORA, *part.notes), part.adapter)


def _delora(optimizer: Optimizer, claim: Claim, core: Core) -> Magnitude:
    part = core(claim)
    below, above = _leading(part, claim)
    if claim.quantity in ("output", "update") and claim.steps and abs(claim.cosine) < 1:
        if claim.statistic == "projection":
            raise NotDerivable("at a probe beside the sample the mean follows how the base weight's column norms tie the two: data")
        above = above + _leading(_aligned(claim, core), claim)[1]  # the column norms of W weigh the inputs: x and x' are no longer apart
    return replace(part, value=below, upper=sp.expand(above), exact=False, error_order="O(lr)", notes=(DELORA, *part.notes))


def _residual(order: str, note: str) -> Callable[[Optimizer, Claim, Core], Magnitude]:
    """Of an adapter that takes its init off the base weight, so that nothing is added until it moves."""

    def of(optimizer: Optimizer, claim: Claim, core: Core) -> Magnitude:
        kind = claim.quantity.partition(":")[0]
        if kind in ("output", "input_gradient") and not claim.steps:
            return Magnitude(sp.Integer(0), True, notes=(note,))
        if kind == "input_gradient":
            raise NotDerivable("the base keeps what the factors do not pass at init, and the core's gradient to the input holds that init")
        return _powers(core(replace(claim, quantity="update") if kind == "output" else claim), order, note)

    return of


def _fourierft(optimizer: Optimizer, claim: Claim, core: Core) -> Magnitude:
    part = core(claim)
    kind = claim.quantity.partition(":")[0]
    if kind not in ("output", "update") or claim.cosine != 0 or claim.steps == 0:
        return _powers(part, "O(r/(d_in d_out))", FOURIERFT)
    if claim.statistic == "projection":
        raise NotDerivable("at an orthogonal probe the mean over places follows how x and x' are aligned once one is reversed: data")
    # The mean over all places is v x', and a reversed copy of it that meets an orthogonal probe as the data will have it.
    whole = _aligned(claim, core)
    above = whole.value if whole.upper is None else whole.upper
    return replace(_powers(part, "O(r/(d_in d_out))", FOURIERFT), upper=above)


_KNOWN: dict[str, Callable[[Optimizer, Claim, Core], Magnitude]] = {
    "dora": _dora, "delora": _delora, "fourierft": _fourierft,
    "pissa": _residual("O((r/d)**(2/3))", PISSA), "olora": _residual("O(r/d)", OLORA),
}  # fmt: skip
