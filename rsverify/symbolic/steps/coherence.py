"""The power of the rank after one nonlinear step, for any multilinear adapter: from which sums agree in sign.

A step D that follows the gradient G entry by entry makes every term of <D, G> positive: a sign step gives sum |G_z|, a step of unit
length gives |G|. Each factor stands in the expression once, so that G_z is linear in every factor; linear forms in the entries of
each law here have E L**4 <= C (E L**2)**2 with C free of r, hence E G_z**4 <= C**m (E G_z**2)**2 for m factors, and by Hoelder
E|G_z| >= C**(-m/2) sqrt(E G_z**2). So second moments alone, which the engine knows exactly, fix the power of the aligned motion:

    below:  |v| |y| >= v . y = <D, G>                                        (Cauchy and Schwarz, then Hoelder as above)
    above:  y_o**2  <= (number of z that reach o) * sum over z of H_oz**2    (H the derivative of y in the factor moved)

Where both have the same power of r, that is the exponent; else it lies between them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import combinations
from typing import Any

import sympy as sp

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.laws import Frozen, Gaussian, Law, Orthonormal, Zero
from rsverify.definitions.optimizers import Optimizer, as_optimizer
from rsverify.errors import NotDerivable
from rsverify.records import Claim
from rsverify.symbolic.moments import symbols as s
from rsverify.symbolic.moments.sizes import axis_sizes, spread
from rsverify.symbolic.steps import polynomial
from rsverify.symbolic.steps.magnitude import Magnitude, decay_left, exact_number
from rsverify.symbolic.steps.normstep import UNIT_LENGTH, shape_factor
from rsverify.symbolic.steps.scalarsteps import CAPPED, SIGN_LIKE, first_factor, first_rate

CONSTANT = "a constant free of r"
POWERS_ONLY = "second moments fix the power of r by coherence of signs (Hoelder below, Cauchy and Schwarz above), not the constant"
SMALL_STEPS = "several factors move at once: to first order in lr below, all orders above"
_SGD = as_optimizer("sgd")


def magnitude(adapter: Adapter, optimizer: Optimizer, claim: Claim) -> Magnitude:
    """Bounds on the claim's magnitude after one step, from below and above, up to constants free of r.

    Raises: NotDerivable with the reason.
    """
    if claim.steps > 1:
        raise NotDerivable(f"bounds by coherence of signs speak of one step, and {claim.steps} are asked for; later steps follow from it")
    step = OneStep(adapter, optimizer)
    if not step.moving:
        return Magnitude(sp.Integer(0), True)
    kind = claim.quantity.partition(":")[0]
    if kind in ("output", "update"):
        return step.output(claim)
    if kind == "input_gradient":
        return step.input_gradient(claim)
    if kind == "loss_decrease":
        return step.bracket(step.alignment(upper=False), step.alignment(upper=True))
    if claim.statistic == "projection":
        raise NotDerivable("a projection is defined for output, update, input_gradient and loss_decrease only")
    return step.gradients(claim, [str(claim.factor)] if claim.factor else list(adapter.trainable))


@lru_cache(maxsize=512)
def second_moment(adapter: Adapter, quantity: str, probe: str = "aligned") -> Any:
    """E of the squared norm of a quantity at init, exact."""
    claim = Claim(adapter.name, adapter.init, "", "sgd", quantity, "frobenius", probe, "rank", 0)
    return sp.expand(polynomial.magnitude(adapter, _SGD, claim)[0])


def rank_one_gradient(adapter: Adapter, name: str) -> bool:
    """Whether the gradient of a factor of two axes is always an outer product: no sum ties the two axes together."""
    axes = adapter.operands[name]
    groups = [set(other) for key, other in adapter.operands.items() if key != name]
    rows, columns = adapter.result
    groups += [set(rows), set(columns)]  # the data v and x, each a tensor over its group
    linked = {axes[0]}
    while True:
        more = {axis for group in groups if group & linked for axis in group} - linked
        if not more:
            return len(axes) == 2 and axes[1] not in linked
        linked |= more


class OneStep:
    """One step of an optimizer on an adapter: which factors move, how far, and what that does."""

    def __init__(self, adapter: Adapter, optimizer: Optimizer) -> None:
        self.adapter, self.optimizer = adapter, optimizer
        self.sizes = axis_sizes(adapter)
        self.squares = {name: second_moment(adapter, f"gradient:{name}") for name in adapter.trainable}
        self.moving = [name for name in adapter.trainable if self.squares[name] != 0]
        self.sign = optimizer.name in SIGN_LIKE
        if not self.sign and optimizer.name not in UNIT_LENGTH:
            raise NotDerivable(f"the update of {optimizer.name} is not written in symbols; the numeric witnesses can speak")
        self._check()
        self.rates = {name: first_rate(optimizer, adapter, name) * self._factor(name) for name in self.moving}
        decay = optimizer.option("weight_decay")
        self.decay = exact_number(decay) if decay else sp.Integer(0)
        still = [name for name in adapter.trainable if name not in self.moving]
        self.kept = decay_left(optimizer.name, decay) ** len(still) if still or len(self.moving) > 1 or decay else sp.Integer(1)

    def _check(self) -> None:
        name = self.optimizer.name
        if name == "normalized-sgd" and self.optimizer.option("weight_decay"):
            raise NotDerivable("normalized-sgd has no weight decay")
        for factor in self.moving:
            axes = self.adapter.operands[factor]
            if name in ("muon", "muon-torch") and len(axes) != 2:
                raise NotDerivable(f"factor {factor} has {len(axes)} axes: only a matrix can be orthogonalised by {name}")
            if name == "adafactor" and (len(axes) > 2 or (len(axes) == 2 and not rank_one_gradient(self.adapter, factor))):
                raise NotDerivable(
                    f"Adafactor divides the gradient of {factor} by its row and column means, which is its sign for one of rank one only"
                )

    def _factor(self, name: str) -> Any:
        """The length of an entry's step over lr (sign-like) or of the whole step (unit length)."""
        if self.optimizer.name == "adafactor":
            law = self.adapter.laws[name]
            return first_factor(self.optimizer) if is_zero(law) else first_factor(self.optimizer) * sp.Max(
                1, self._rms(name) / exact_number(self.optimizer.option("eps2")))  # fmt: skip
        if self.sign:
            return first_factor(self.optimizer)
        rows, columns = self._matrix(name) if self.optimizer.name == "muon-torch" else (1, 1)
        return shape_factor(self.optimizer, rows, columns)

    def _rms(self, name: str) -> Any:
        law = self.adapter.laws[name]
        if not law.independent:
            raise NotDerivable(f"Adafactor's step follows the rms of {name}, which is orthonormal: not written")
        return sp.sqrt(sp.Rational(law.standard_moment(2))) * spread(self.adapter, name)

    def _matrix(self, name: str) -> tuple[Any, Any]:
        rows, columns = self.adapter.operands[name]
        return self.sizes[rows], self.sizes[columns]

    def count(self, names: Iterable[str], without: Sequence[str] = ()) -> Any:
        """Number of entries of factors together, over the axes that are not given."""
        axes = {axis for name in names for axis in self.adapter.operands[name]} - set(without)
        return sp.Mul(*(self.sizes[axis] for axis in axes))

    def _spread_over(self, name: str) -> Any:
        """What orthogonalising may add: the number of singular values, where the gradient is not of rank one."""
        if self.optimizer.name not in ("muon", "muon-torch") or rank_one_gradient(self.adapter, name):
            return sp.Integer(1)
        return sp.Min(*self._matrix(name))

    def alignment(self, *, upper: bool) -> Any:
        """<D, G> squared, up to a constant: how far the step goes along its gradient."""
        total: Any = sp.Integer(0)
        for name in self.moving:
            gain = self.count([name]) if self.sign else self._spread_over(name) if upper else 1
            total += self.rates[name] ** 2 * gain * self.squares[name]
        return total

    def rate(self, name: str) -> Any:
        """How far an entry (sign-like) or the whole of a factor (unit length) moves in a step, were it to move."""
        known = self.rates.get(name)
        return first_rate(self.optimizer, self.adapter, name) * self._factor(name) if known is None else known

    def reach(self, quantity: str, onto: Sequence[str], probe: str = "aligned", moving: Sequence[str] | None = None) -> Any:
        """An upper bound on E of the squared change of a quantity, over all products of steps of the factors that move."""
        total: Any = sp.Integer(0)
        moving = self.moving if moving is None else moving
        for size in range(1, len(moving) + 1):
            for chosen in combinations(moving, size):
                if any(is_zero(self.adapter.laws[name]) and name not in chosen for name in self.adapter.laws):
                    continue
                # A factor of independent entries of variance one in place of the step sums the squared derivatives.
                unit = self.adapter.with_init(**{name: Gaussian(std=1) for name in chosen})
                values = sp.Mul(*(self._spread_over(name) for name in chosen))
                many = self.count(chosen, onto) if self.sign else values / self._alike(chosen, onto)
                total += sp.Mul(*(self.rate(name) ** 2 for name in chosen)) * many * second_moment(unit, quantity, probe)
        return total

    def _alike(self, chosen: Sequence[str], onto: Sequence[str]) -> Any:
        """How many components have one and the same derivative in a factor that holds them all: a unit step meets one of them."""
        others = {axis for name, axes in self.adapter.operands.items() if name not in chosen for axis in axes}
        alone = len(chosen) == 1 and set(onto) <= set(self.adapter.operands[chosen[0]]) - others
        return sp.Mul(*(self.sizes[axis] for axis in onto)) if alone else sp.Integer(1)

    def walk(self, quantity: str, onto: Sequence[str], probe: str = "aligned") -> Any:
        """A lower bound beside that by alignment: the squares of single terms, where no two terms work against each other in the mean.

        They do not where each axis of the one moving factor, but those of the result, indexes independent draws: the terms are then
        exchangeable along it, and the mean product of two of them is the mean square of what they have in common.
        """
        if not self.sign or len(self.moving) > 1:
            return sp.Integer(0)
        (name,) = self.moving
        own = set(self.adapter.operands[name]) - set(onto)
        rows, columns = self.adapter.result
        dependent = [key for key, law in self.adapter.laws.items() if not law.independent and own & set(self.adapter.operands[key])]
        if own & {*rows, *columns} or dependent:
            return sp.Integer(0)
        unit = self.adapter.with_init(**{name: Gaussian(std=1)})
        return self.rates[name] ** 2 * second_moment(unit, quantity, probe)

    def bracket(self, below: Any, above: Any, *, notes: tuple[str, ...] = ()) -> Magnitude:
        remarks = (POWERS_ONLY, *notes, *((SMALL_STEPS,) if len(self.moving) > 1 else ()))
        remarks += (CAPPED,) * (self.optimizer.name == "adafactor")
        return Magnitude(below, True, False, CONSTANT, sp.expand(above), remarks, self.adapter)

    def output(self, claim: Claim) -> Magnitude:
        rows = self.adapter.result[0]
        start = self._start(claim)
        above = self.kept**2 * self.reach("output", rows, claim.probe)
        decayed = (s.lr * self.decay * len(self.adapter.trainable)) ** 2 * start if self.decay else sp.Integer(0)
        entries = s.d_out if claim.statistic == "rms" else 1
        if claim.quantity == "update":
            start = sp.Integer(0)
        if claim.cosine == 0:
            return self._across(claim, above, start, decayed, entries)
        notes: tuple[str, ...] = ()
        below = self.kept**2 * self.alignment(upper=False) / s.v_norm2
        if claim.statistic != "projection" and abs(claim.cosine) == 1:
            below += self.kept**2 * self.walk("output", rows)
        if claim.statistic == "projection":
            above = self.kept**2 * self.alignment(upper=True) / s.v_norm2
        if abs(claim.cosine) < 1:
            self._reader("a probe beside the sample")
            below, notes = below * s.cosine**2, ("the part of the probe along the sample decides from below, to O(1/d_in)",)
        return self.bracket((below + start) / entries, (above + start + decayed) / entries, notes=notes)

    def _reader(self, what: str) -> tuple[str, tuple[str, ...]]:
        """The one factor that meets the input, still and centred, and its other axes: its responses to x and to the rest are independent.

        Raises: NotDerivable for another structure.
        """
        columns = set(self.adapter.result[1])
        readers = [name for name, axes in self.adapter.operands.items() if columns & set(axes)]
        if len(readers) != 1 or readers[0] in self.moving or not columns <= set(self.adapter.operands[readers[0]]):
            raise NotDerivable(
                f"{what}: the input of {self.adapter.expression!r} meets {' and '.join(readers)}, so that the response to it is tied to"
                " the signs of the step by more than one cosine"
            )
        law = self.adapter.laws[readers[0]]
        if law.independent and law.standard_moment(1) != 0:
            raise NotDerivable(f"{what}: the entries of {readers[0]} have a mean, so that responses to sample and probe are tied")
        return readers[0], tuple(axis for axis in self.adapter.operands[readers[0]] if axis not in columns)

    def _across(self, claim: Claim, above: Any, start: Any, decayed: Any, entries: Any) -> Magnitude:
        """The output at a probe orthogonal to the sample: a random walk over whatever the responses to it are independent across."""
        _, channels = self._reader("an orthogonal probe")
        if claim.statistic == "projection":
            return Magnitude(sp.expand(start + decayed), True, False, "O(1/d_in)", adapter=self.adapter)
        tied = [name for name in self.moving if not set(self.adapter.operands[name]) <= {*channels, *self.adapter.result[0]}]
        if tied or not self.sign or len(self.moving) > 1:
            raise NotDerivable(
                f"an orthogonal probe: within one response of {self.adapter.expression!r} the steps add up with signs that second moments"
                " do not tell"
            )
        # One entry of the step for each response and output, of square one: the walk's square is the sum of squares itself.
        (name,) = self.moving
        unit = self.adapter.with_init(**{name: Gaussian(std=1)})
        square = self.kept**2 * self.rates[name] ** 2 * second_moment(unit, "output", claim.probe)
        note = "sample and probe meet independent responses: exact for Gaussian factors, else to O(1/d_in)"
        value = sp.expand((square + start + decayed) / entries)
        return Magnitude(value, True, False, "O(1/d_in)", notes=(note,), adapter=self.adapter)

    def _start(self, claim: Claim) -> Any:
        """E of the square at init; of a projection the square of its mean, which factors that have one give it."""
        if claim.statistic != "projection":
            return second_moment(self.adapter, claim.quantity.replace("update", "output"), claim.probe)
        at_init = replace(claim, quantity=claim.quantity.replace("update", "output"), rule="", optimizer="sgd", steps=0)
        return sp.expand(polynomial.magnitude(self.adapter, _SGD, at_init)[0] ** 2)

    def input_gradient(self, claim: Claim) -> Magnitude:
        columns = self.adapter.result[1]
        start = self._start(claim)
        below = self.kept**2 * self.alignment(upper=False) / s.x_norm2
        if claim.statistic == "projection":
            return self.bracket(below + start, self.kept**2 * self.alignment(upper=True) / s.x_norm2 + start)
        entries = s.d_in if claim.statistic == "rms" else 1
        above = self.kept**2 * self.reach("input_gradient", columns)
        below += self.kept**2 * self.walk("input_gradient", columns)
        return self.bracket((below + start) / entries, (above + start) / entries)

    def gradients(self, claim: Claim, asked: list[str]) -> Magnitude:
        if len(self.moving) > 1:
            raise SeveralMove("gradients after a step that moves several factors mix orders of lr that second moments do not separate")
        (moved,) = self.moving
        below: Any = sp.Integer(0)
        above: Any = sp.Integer(0)
        for name in asked:
            if name == moved:  # linear in every other factor, and those stay
                below += self.kept**2 * self.squares[name]
                above += self.kept**2 * self.squares[name]
                continue
            # <G_F, F> is the full contraction, -<D, G>: so |G_F| is at least that over |F|.
            below += self.alignment(upper=False) / self.norm2(name)
            above += self.reach(f"gradient:{name}", self.adapter.operands[name])
        entries = self.count(asked) if claim.statistic == "rms" and claim.factor else 1
        if asked == [moved]:
            return Magnitude(sp.expand(below / entries), True, adapter=self.adapter)
        return self.bracket(below / entries, above / entries)

    def norm2(self, name: str) -> Any:
        """E of the squared norm of a factor at init."""
        law = self.adapter.laws[name]
        bare = law.law if isinstance(law, Frozen) else law
        if isinstance(bare, Orthonormal):
            return sp.Min(*self._matrix(name)) * spread(self.adapter, name) ** 2
        return self.count([name]) * sp.Rational(law.standard_moment(2)) * spread(self.adapter, name) ** 2


class SeveralMove(NotDerivable):
    """Exact orders of lr cannot be told apart; the leading one can (the module `later`)."""


def is_zero(law: Law) -> bool:
    """Whether a factor's entries all start at zero."""
    return isinstance(law.law if isinstance(law, Frozen) else law, Zero)
