"""Draws of a declared adapter's factors from named streams: blocks of a fixed size, whatever the chunk that holds them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.laws import Frozen, Law, Zero
from rsverify.statistics.streams import stream

BLOCK_ENTRIES = 2**17  # a block of drawn entries fits in a core's own cache (1 MB)
BLOCK_DRAWS = 2048


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
