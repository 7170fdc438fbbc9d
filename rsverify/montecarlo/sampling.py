"""Data and init draws from named streams: blocks of draws of a fixed size, whatever the chunk that holds them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.laws import Frozen, Law, Zero
from rsverify.errors import InputError
from rsverify.montecarlo.dense import Problem
from rsverify.statistics.streams import stream

BLOCK_ENTRIES = 2**17  # a block of drawn entries fits in a core's own cache (1 MB)
BLOCK_DRAWS = 2048


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


def block_size(adapter: Adapter, rank: int, d_in: int, d_out: int) -> int:
    """Draws per block: a matter of the adapter's shapes alone, so that no setting of memory changes a number."""
    entries = sum(math.prod(shape) for shape in adapter.shapes(rank, d_in, d_out).values())
    return max(1, min(BLOCK_DRAWS, BLOCK_ENTRIES // entries))


def draw_block(
    adapter: Adapter, *, seed: int, phase: str, rank: int, gamma: float, d_in: int, d_out: int, number: int, draws: int, chunk: int
) -> Iterator[tuple[int, dict[str, np.ndarray | None]]]:
    """The first `draws` init draws of a block, in chunks with their number of draws; identically zero factors come as None.

    One stream per (phase, rank, factor, block); a chunk reads on where the last one stopped. The scaling factor matters to laws
    that absorb it alone.
    """
    sizes = {**adapter.axis_sizes(rank, d_in, d_out), "d_in": d_in, "d_out": d_out, "gamma": gamma}
    shapes = adapter.shapes(rank, d_in, d_out)
    streams = {name: stream(seed, "montecarlo", phase, rank, name, number) for name in adapter.laws}
    while draws:
        n = min(chunk, draws)
        draws -= n
        yield (
            n,
            {name: None if _vanishes(law) else _draw(law, streams[name], (n, *shapes[name]), sizes) for name, law in adapter.laws.items()},
        )


def _draw(law: Law, rng: np.random.Generator, shape: tuple[int, ...], sizes: Mapping[str, float]) -> np.ndarray:
    """As `law.draw`, scaled in place: at large ranks a second array costs as much as the draw."""
    entries = law.standard_draw(rng, shape)
    entries *= law.scale(sizes)
    return entries


def _vanishes(law: object) -> bool:
    return isinstance(law, Zero) or (isinstance(law, Frozen) and isinstance(law.law, Zero))
