"""When a run that looks at its own results may stop: one boundary that holds at every look.

An interval at a fixed level that is looked at again and again misses the truth sooner or later, with certainty: each look
is a new chance. The normal-mixture boundary pays for all looks at once: with probability 1 - error the truth lies inside
at every number of draws, so that a run may stop whenever it likes, for any reason.

In words: for independent normal values of mean mu and unknown variance, mix the likelihood of mu + sigma d over
d ~ N(0, 1/rho) and over sigma by its scale-invariant law. The ratio to the likelihood at mu,

    M_n = sqrt(rho / (n + rho)) * (S / (S - T**2 / (n + rho)))**(n / 2),   T = sum (x - mu), S = sum (x - mu)**2,

starts at M_1 = 1 and is a martingale, so by Ville's inequality it exceeds 1 / error at any time with probability at most
`error`; the interval is where it has not. As n grows this is the two-sided normal-mixture boundary
sqrt((n + rho) log((n + rho) / (rho error**2))) on T / sigma; at small n it is to that as Student's interval is to the normal's.
Source: Howard, Ramdas, McAuliffe, Sekhon 2021, arXiv 1810.08240 (normal mixture, time-uniform intervals); Wang and
Ramdas 2023, arXiv 2310.03722 (Gaussian mixture at unknown variance, after Lai 1976).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from rsverify.errors import InputError


@dataclass(frozen=True)
class Boundary:
    """A time-uniform boundary for a mean.

    Args: error is the probability that the truth is ever outside; tightest is the number of draws at which the interval is as
        narrow as any choice of rho makes it (it holds at all others too).
    """

    error: float
    tightest: float

    def __post_init__(self) -> None:
        if not 0 < self.error < 1:
            raise InputError(f"error={self.error!r}; expected a rate between 0 and 1, e.g. 1e-6")
        if not self.tightest >= 1:
            raise InputError(f"tightest={self.tightest!r}; expected a number of draws, at least 1")

    @property
    def odds(self) -> float:
        """n / rho at the tightest point: the root w of w = 2 log(1 / error) + log(1 + w)."""
        base = -2 * math.log(self.error)
        w = base + 1
        for _ in range(60):  # a contraction by 1 / (1 + w)
            w = base + math.log1p(w)
        return w

    @property
    def rho(self) -> float:
        return self.tightest / self.odds

    def half_width(self, n: int, spread: float) -> float:
        """Half-width of the interval around the mean of n values of standard deviation `spread` (over n - 1); inf where n is too small."""
        if n < 2:
            return math.inf
        rho = self.rho
        excess = math.expm1((math.log((n + rho) / rho) - 2 * math.log(self.error)) / n)
        room = n - rho * excess
        if room <= 0:
            return math.inf
        return spread * math.sqrt((n - 1) / n * excess * (n + rho) / room)

    def draws_for(self, spread: float, half: float) -> int:
        """Draws at which the interval first has this half-width, were this boundary tightest there."""
        if spread <= 0:
            return 2
        n = max(2, math.ceil((spread / half) ** 2 * (self.odds + 1)))
        while Boundary(self.error, n).half_width(n, spread) > half:  # Student's part: a few percent more
            n = math.ceil(n * 1.02) + 1
        return n

    def reached(self, spread: float, half: float, *, start: int = 2) -> int:
        """Draws in all at which the interval of this boundary, tightest where it is, would have the half-width; at least `start`."""
        n = max(2, start)
        while self.half_width(n, spread) > half:
            n = math.ceil(n * 1.05) + 1
        return n


@dataclass
class Watched:
    """A mean that is looked at as its values come in: batch by batch, the interval right at every look.

    The values must be independent and near normal: hand in means of batches where single draws are skewed.
    """

    boundary: Boundary
    n: int = 0
    mean: float = 0.0
    squares: float = 0.0
    looks: list[tuple[int, float, float]] = field(default_factory=list)

    def add(self, values: np.ndarray) -> tuple[float, float]:
        """Take further values in; returns the interval of the mean so far."""
        values = np.asarray(values, dtype=np.float64).ravel()
        if len(values):
            m, mean = len(values), float(values.mean())
            gap, total = mean - self.mean, self.n + m
            self.squares += float(((values - mean) ** 2).sum()) + gap * gap * self.n * m / total
            self.mean += gap * m / total
            self.n = total
        half = self.half
        self.looks.append((self.n, self.mean, half))
        return self.mean - half, self.mean + half

    @property
    def spread(self) -> float:
        return math.sqrt(self.squares / (self.n - 1)) if self.n > 1 else math.inf

    @property
    def half(self) -> float:
        return self.boundary.half_width(self.n, self.spread) if self.n > 1 else math.inf

    def price(self, half: float) -> int:
        """Values in all at which the interval would have this half-width, at the spread seen so far."""
        if self.n < 2:
            raise InputError(f"draws={self.n}: a price needs at least two values, to know their spread")
        return self.boundary.reached(self.spread, half, start=self.n)
