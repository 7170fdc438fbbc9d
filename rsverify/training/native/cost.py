"""What a linear with an adapter costs the kernels, by either of two routes, and which route is the faster.

Adapter route: y = W x + B (gamma A x). Merged route: M = W + gamma B A once, y = M x.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

Route = Literal["adapter", "merged"]
ENTRY = 230
"""What every entry of a factor costs a step beside the products, in operations of equal time: its way through memory and the optimizer.
Measured at d 64 and 128 and ranks of 4 to 2048."""


def times(*, n: int, d_in: int, d_out: int, r: int, lanes: int, back: bool = True) -> tuple[float, float]:
    """Time of a step at one linear on the adapter and on the merged route, in operations of full speed, on vectors of so many lanes.

    The frozen weight's product stands beside the adapter's on both routes going forward: the sum of the adapter alone is probed.
    """
    base, padded = 2 * n * d_in * d_out, -(-r // lanes) * lanes
    adapter = 2 * base + 2 * n * padded * (d_in + d_out + d_out) + 2 * n * r * (d_in + d_out + d_in)
    merged = 4 * base + 2 * d_in * d_out * (r + padded + r)
    return adapter - (0 if back else base + 2 * n * r * d_in), merged - (0 if back else base)


def route(*, n: int, d_in: int, d_out: int, r: int, lanes: int) -> Route:
    """The faster route."""
    adapter, merged = times(n=n, d_in=d_in, d_out=d_out, r=r, lanes=lanes)
    return "merged" if merged < adapter else "adapter"


def step_time(widths: Sequence[tuple[int, int]], *, rows: int, rank: int, lanes: int) -> float:
    """Time of a step of one configuration at linears of (d_out, d_in), by the faster route each, with the update of the factors."""
    linears = sum(min(times(n=rows, d_in=d_in, d_out=d_out, r=rank, lanes=lanes)) for d_out, d_in in widths)
    return linears + sum(ENTRY * rank * (d_in + d_out) for d_out, d_in in widths)
