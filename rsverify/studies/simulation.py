"""Where and how the second witness is asked by every study: one path for `verify`, the atlas, `solve` and `transfer`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from rsverify.definitions.claims import Setting, setting
from rsverify.definitions.optimizers import Optimizer
from rsverify.definitions.ranks import parse_ranks
from rsverify.definitions.rules import ALPHA, ScalingRule
from rsverify.definitions.targets import Target
from rsverify.definitions.wrapped import WrappedAdapter
from rsverify.montecarlo import Budget, estimate
from rsverify.montecarlo.engines import silent_engines
from rsverify.montecarlo.module.sampler import module_setting
from rsverify.montecarlo.places import Place, Sizes, place_of
from rsverify.records import Claim, Estimate, Prediction

RANKS = parse_ranks("4,15,64,257,1024,2039,4096,16381,65536")
QUICK_RANKS = parse_ranks("16,61,256,1021")
TRAINED = parse_ranks("4,8,15,32,61,128,256")
"""Some are odd, one prime: a rule that is right at powers of two alone is seen."""
D_IN, D_OUT = 16, 12
"""Widths of the simulated layer: rectangular, because square layers hide transposes."""
UNSETTLED_CEILING = 64
"""Orthogonal probes do not average out over rank channels: every rank costs as many draws as rank 4, so few ranks must do."""
WORK = 2.4e9
"""Entries of factors in all draws of a claim at most, where a draw's cost grows with the rank."""


@dataclass(frozen=True)
class Bench:
    """Where a target is simulated: near sizes for claims whose exact law is taken out, far ones (`sizes.far`) for the rest.

    `cheap` where no draw's cost grows with the rank; `given` where the ranks are the user's.
    """

    place: Place
    alpha: float
    cheap: bool
    given: bool

    @property
    def sizes(self) -> Sizes:
        return self.place.sizes

    @property
    def trained(self) -> tuple[int, ...]:
        """Ranks on a real block: those of the default where nothing but the block bounds them, else far below its widths."""
        if self.cheap:
            return TRAINED
        return (2, 4, 8) if self.sizes.regime == "width" or max(self.sizes.ranks) < max(self.sizes.d_in, self.sizes.d_out) else (4, 16, 64)

    @property
    def most(self) -> int:
        """Ranks of a curve at most."""
        return self.sizes.most


def bench_of(
    target: Target, rule: ScalingRule, optimizers: Sequence[Optimizer], *, ranks: tuple[int, ...] | None, quick: bool, alpha: float | None
) -> Bench:
    """Where a target is simulated: at the ranks given, else where its rank can grow."""
    cheap = _cheap(target, rule, optimizers)
    place = Place(Sizes("rank", D_IN, D_OUT, QUICK_RANKS if quick else RANKS)) if cheap else place_of(target)
    if ranks is not None:
        place = replace(place, sizes=replace(place.sizes, ranks=ranks, far=None))
    used = alpha if alpha is not None else target.alpha if target.alpha is not None else place.sizes.alpha or ALPHA
    return Bench(place, used, cheap, ranks is not None)


def _cheap(target: Target, rule: ScalingRule, optimizers: Sequence[Optimizer]) -> bool:
    if target.build is not None or isinstance(target.derivable, WrappedAdapter):
        return False
    asked = [setting(target.adapter, rule, optimizer=optimizer) for optimizer in optimizers]
    return all(not {"gram", "channels"} <= silent_engines(one).keys() for one in asked)


def setting_of(target: Target, rule: ScalingRule, **asked: Any) -> Setting:
    """The setting of a claim about any target: a module's stands for the weight that it adds, whatever that is made of."""
    if target.build is None and not isinstance(target.derivable, WrappedAdapter):
        return setting(target.adapter, rule, **asked)
    return module_setting(target.build or target.derivable, rule, name=target.name, **asked)  # pyright: ignore[reportArgumentType]


def simulate(target: Target, bench: Bench, asked: Setting, *, predicted: Prediction | None, **design: Any) -> Estimate:
    """What simulation says of a claim, at the sizes that suit it.

    An exact law at finite rank is taken out of the draws, which testify to it: nothing is then extrapolated, and nothing taken on trust.
    """
    claim, curve = asked.claim, None
    sizes, budget = bench.sizes, None
    if not bench.cheap:
        exact = predicted is not None and predicted.exact and predicted.formula is not None and predicted.exponent is not None
        curve = predicted if exact and not bench.place.fresh else None
        sizes = bench.sizes if curve is not None or bench.sizes.far is None else bench.sizes.far
        contracted = target.build is None and not isinstance(target.declared, WrappedAdapter)
        budget = Budget(entries=WORK) if contracted and not bench.place.fresh else None
    return estimate(
        target, asked.rule, optimizer=asked.optimizer, quantity=claim.quantity, statistic=claim.statistic, probe=claim.probe,
        steps=claim.steps, regime=claim.regime, ranks=_ranks(claim, sizes.ranks), d_in=sizes.d_in, d_out=sizes.d_out, alpha=bench.alpha,
        fresh=None, curve=curve, budget=budget, **design,
    )  # fmt: skip


def _ranks(claim: Claim, ranks: tuple[int, ...]) -> tuple[int, ...]:
    if claim.probe == "aligned":
        return ranks
    few = tuple(r for r in ranks if r <= UNSETTLED_CEILING)
    return few if len(few) >= 3 else ranks


def comparable(predicted: Prediction | None, estimated: Estimate | None) -> Prediction | None:
    """The prediction without its formula where the draws had data of their own each: the formula is that of one sample."""
    if predicted is None or estimated is None or "x_norm2" in estimated.data:
        return predicted
    return replace(predicted, formula=None)
