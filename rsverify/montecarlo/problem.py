"""What an adapter is looked at with: samples, probes and signals, from named streams."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from rsverify.errors import InputError
from rsverify.statistics.streams import stream


@dataclass(frozen=True)
class Problem:
    """A linear layer's samples x, their probes x' and the loss gradients v at its outputs: the loss is the sum of v . y.

    Shapes: x, x_probe (d_in,); v (d_out,) for one sample; (d_in, n), (d_out, n) for several.
    """

    x: np.ndarray
    x_probe: np.ndarray
    v: np.ndarray


def make_problem(seed: int, *, d_in: int, d_out: int, cosine: float, samples: int = 1) -> Problem:
    """Samples with |x|**2 = d_in, for each a probe of that norm at the cosine and a signal: the same for every rank.

    The loss is the mean over samples: |v| = 1 for one sample, 1 / samples for each of several. The first sample does not depend on
    how many there are. Raises: InputError for no samples, or a probe that has no room.
    """
    if isinstance(samples, bool) or samples != int(samples) or samples < 1:
        raise InputError(f"samples={samples!r}; expected a whole number from 1")
    drawn = [_sample(seed, d_in=d_in, d_out=d_out, cosine=cosine, number=number) for number in range(samples)]
    if samples == 1:
        return drawn[0]
    return Problem(
        np.stack([one.x for one in drawn], axis=1), np.stack([one.x_probe for one in drawn], axis=1),
        np.stack([one.v for one in drawn], axis=1) / samples,
    )  # fmt: skip


def _sample(seed: int, *, d_in: int, d_out: int, cosine: float, number: int) -> Problem:
    further = (number,) if number else ()
    x = stream(seed, "montecarlo", "x", *further).standard_normal(d_in)
    x *= math.sqrt(d_in / (x @ x))
    v = stream(seed, "montecarlo", "v", *further).standard_normal(d_out)
    v /= math.sqrt(v @ v)
    if abs(cosine) == 1.0:
        return Problem(x, cosine * x, v)
    if d_in < 2:
        raise InputError(f"d_in={d_in}: a probe at cosine {cosine:g} needs at least two input axes")
    other = stream(seed, "montecarlo", "probe", *further).standard_normal(d_in)
    other -= x * (x @ other) / (x @ x)
    other *= math.sqrt((x @ x) / (other @ other))
    return Problem(x, cosine * x + math.sqrt(1 - cosine**2) * other, v)
