"""The law of one isotropic step: LoRA with Gaussian A and B zero, one sample. There the numbers are powers of a chi-square.

In words: A x is a vector of r independent normals, so |A x|**2 = s**2 |x|**2 q with q of chi-square's law with r degrees. The
gradient of B has the norm gamma |v| |A x|, and one step of SGD moves the aligned output by lr gamma**2 v |A x|**2. The sum of n
such q is a chi-square of n r degrees: the logarithm of their mean has variance psi1(n r / 2), its root a quarter of that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from rsverify.definitions.claims import Setting
from rsverify.definitions.laws import Frozen, Gaussian, Zero
from rsverify.montecarlo.curve import POWERS
from rsverify.statistics.special import trigamma


@dataclass(frozen=True)
class Isotropic:
    """Magnitudes proportional to q**power, q of chi-square's law with r degrees of freedom."""

    power: float
    statistic: str

    def error(self, rank: int, draws: int) -> float:
        """The standard error of the logarithm of the statistic over so many draws."""
        if self.statistic == "log":
            return self.power * math.sqrt(float(trigamma(rank / 2)) / draws)
        moment = 1 if self.statistic == "projection" else 2  # the numbers per draw are magnitudes, or their squares
        exponent, by = round(self.power * moment), POWERS[self.statistic]
        if exponent == 1:
            return by * math.sqrt(float(trigamma(draws * rank / 2)))
        r = float(rank)
        return by * math.sqrt((8 * r + 24) / (r * (r + 2)) / draws)  # E q**4 / (E q**2)**2 - 1

    def spread(self, rank: int) -> float:
        """One draw's share of that error as draws grow: the relative deviation of the numbers, as a logarithm's."""
        many = 10**8
        return self.error(rank, many) * math.sqrt(many)


def isotropic(setting: Setting, problem_samples: int) -> Isotropic | None:
    """The law where the setting is such a step, else None."""
    adapter, claim, optimizer = setting.adapter, setting.claim, setting.optimizer
    laws = {name: law.law if isinstance(law, Frozen) else law for name, law in adapter.laws.items()}
    rows, columns = adapter.result
    if problem_samples != 1 or len(laws) != 2 or len(rows) != 1 or len(columns) != 1 or len(adapter.rank_axes) != 1:
        return None
    by_axes = {axes: name for name, axes in adapter.operands.items()}
    up, down = by_axes.get((rows[0], adapter.rank_axes[0])), by_axes.get((adapter.rank_axes[0], columns[0]))
    if up is None or down is None or not isinstance(laws[up], Zero) or not isinstance(laws[down], Gaussian):
        return None
    if not adapter.laws[up].trainable or optimizer.option("clip"):
        return None
    if claim.steps == 0 and (claim.quantity == "gradient_norm" or claim.factor == up):
        return Isotropic(0.5, claim.statistic)
    plain = optimizer.name in ("sgd", "momentum") and claim.steps == 1
    # The gradient of A is zero at the first step: only B moves, and weight decay only rescales A.
    if plain and (claim.quantity == "loss_decrease" or (claim.quantity == "update" and abs(claim.cosine) == 1)):
        return Isotropic(1.0, claim.statistic)
    return None
