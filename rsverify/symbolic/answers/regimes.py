"""The regimes of training, each with the term that decides how far a layer moves: what a transfer between ranks goes by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache

import sympy as sp

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.claims import Setting, setting
from rsverify.definitions.optimizers import Optimizer
from rsverify.errors import BudgetError, NotDerivable
from rsverify.records import Claim
from rsverify.symbolic.answers.leading import coefficient
from rsverify.symbolic.answers.reading import refuse_incomparable, settled
from rsverify.symbolic.answers.solver import Term, leading_terms
from rsverify.symbolic.answers.witness import magnitude
from rsverify.symbolic.moments.flatdata import changing
from rsverify.symbolic.steps import muon
from rsverify.symbolic.steps.magnitude import Magnitude
from rsverify.symbolic.steps.normstep import UNIT_LENGTH
from rsverify.symbolic.steps.scalarsteps import SIGN_LIKE
from rsverify.symbolic.steps.twofactor import two_factors


@dataclass(frozen=True)
class Regime:
    """The term that decides a magnitude in one regime of training, with the reason in words.

    `first` says whether it speaks of the first step; `caveat` is what the user must know of where it ends.
    """

    name: str
    term: Term
    why: str
    first: bool = True
    caveat: str = ""
    size: Size | None = None

    def at(self, rank: int, d_in: int, d_out: int) -> float | None:
        """What stands beside gamma**a * lr**c at a rank and widths, on flat standard data; None where no formula says it."""
        return None if self.size is None else self.size.at(rank, d_in, d_out)


@dataclass(frozen=True)
class Size:
    """The coefficient of one power of gamma and lr in a magnitude (of its square where `root` is 2), as a formula in rank and widths.

    `gain` is a further power of r that the magnitude has in a regime.
    """

    coefficient: sp.Expr
    root: int
    adapter: Adapter
    gain: Fraction = Fraction(0)

    def at(self, rank: int, d_in: int, d_out: int) -> float:
        sizes = self.adapter.axis_sizes(rank, d_in, d_out)
        known = {"r": rank, "d_in": d_in, "d_out": d_out, "x_norm2": d_in, "v_norm2": 1, "cosine": 1}
        known |= {f"n_{axis}": size for axis, size in sizes.items()}
        values = [(symbol, sp.Integer(known[str(symbol)])) for symbol in self.coefficient.free_symbols]
        return abs(float(self.coefficient.subs(values))) ** (1 / self.root) * rank ** float(self.gain)


def regimes(adapter: Adapter | str, *, optimizer: Optimizer | str, quantity: str = "update", regime: str = "rank") -> tuple[Regime, ...]:
    """The terms that decide how far training moves a layer: at the first step, and later where theory speaks; none where no lr enters.

    Raises: NotDerivable with the reason; UnknownName.
    """
    return _regimes(setting(adapter, "1", optimizer=optimizer, quantity=quantity, regime=regime))


@lru_cache(maxsize=64)
def _regimes(asked: Setting) -> tuple[Regime, ...]:
    used, claim = asked.optimizer, asked.claim
    bare = used.with_options(weight_decay=0.0) if used.option("weight_decay") else used
    magnitude(asked.adapter, used, claim)
    found = settled(magnitude(asked.adapter, bare, claim), claim, Fraction(0))
    refuse_incomparable(found, claim)
    start = _slowest(leading_terms(found, claim))
    if start is None:
        return ()
    size = _size(found, start, asked.adapter)
    listed = [Regime("first step", start, f"First step: {_nature(used)}", caveat=_limits(used), size=size)]
    if found.upper is not None:
        top = _slowest(leading_terms(found, claim, upper=True))
        if top is not None and top != start:
            listed.append(Regime("first step, at most", top, "First step, bound from above", caveat="Theory bounds the first step only."))
    if found.large is not None:
        large = _slowest(leading_terms(found.large, claim))
        below = "Which side of epsilon the gradient is on decides; its entries go as gamma."
        listed = [Regime("gradient far below epsilon", start, "Gradient far below epsilon: SGD at lr/eps", caveat=below, size=size)]
        if large is not None:
            listed.append(
                Regime(
                    "gradient far above epsilon", large, "Gradient far above epsilon: a sign step",
                    size=_size(found.large, large, asked.adapter),
                )
            )  # fmt: skip
        return tuple(listed)
    if used.name in ("muon", "muon-torch") and two_factors(asked.adapter) is not None:
        a, b, c = start
        gain = muon.batch_gain(below=True)
        why = "Gradient of one direction, or r far above its stable rank R: a step of length lr"
        listed[0] = Regime("one direction", start, why, caveat=_limits(used), size=size)
        many = "Gradient of many directions, r far below its stable rank R"
        where = "Muon's answer depends on the stable rank R of a batch's gradient at the layer: the crossover is at r = R."
        listed.append(Regime("many directions", (a, b + gain, c), many, caveat=where, size=size and replace(size, gain=gain)))
    return (*listed, *_later(asked.adapter, bare, claim, start))


def _size(found: Magnitude, term: Term, adapter: Adapter) -> Size | None:
    """The finite formula of a term; None where only bounds are known or the data's shape follows the rank."""
    a, _, c = (power * found.root for power in term)
    if found.upper is not None or changing(map(str, found.value.free_symbols), adapter):
        return None
    try:
        return Size(coefficient(found.value, (a, c), adapter=adapter), found.root, adapter)
    except (NotDerivable, BudgetError):
        return None


def _later(adapter: Adapter, optimizer: Optimizer, claim: Claim, start: Term) -> tuple[Regime, ...]:
    """What further powers of lr say of the steps after the first."""
    if optimizer.name not in SIGN_LIKE:
        return ()  # linear steps move the other factors by lr gamma at most, which falls; others are not derived beyond the first
    try:
        later = replace(claim, steps=2)
        found = magnitude(adapter, optimizer, later)
        terms = leading_terms(found, later)
    except NotDerivable:
        return ()
    return tuple(
        Regime(
            "long after", term, "Once the other factor has moved far from its init", first=False,
            caveat="Early in training the first step's law holds, late in a long run the other: the learning rate lies between the two.",
            size=_size(found, term, adapter),
        )
        for term in terms if term[2] > start[2]
    )  # fmt: skip


def _limits(optimizer: Optimizer) -> str:
    """Where the law of the first step ends, for optimizers whose later steps have no law of their own here."""
    if optimizer.name in SIGN_LIKE:
        return ""
    if optimizer.name in UNIT_LENGTH:
        return f"Beyond the first step of {optimizer.name} nothing is derived: both factors then move, by norms that depend on all draws."
    return (
        "Later steps keep this law while their number times lr * gamma * |v| * |x| is small: then the other factor is still near its init."
    )


def _slowest(terms: Sequence[Term]) -> Term | None:
    """The term of the lowest power of lr, which decides at small learning rates; None where no term holds lr."""
    return min((term for term in terms if term[2] > 0), key=lambda term: (term[2], -term[1]), default=None)


def _nature(optimizer: Optimizer) -> str:
    if optimizer.name in SIGN_LIKE:
        return f"every entry that {optimizer.name} moves moves by about lr, whatever the gradient's size, and their effects agree in sign"
    if optimizer.name in UNIT_LENGTH:
        return f"the step of {optimizer.name} has the length lr, whatever the gradient's size"
    return f"the step of {optimizer.name} is lr times the gradient, which holds gamma once more"
