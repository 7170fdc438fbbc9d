"""What a linear with an adapter costs in multiplications, by either of two routes, and which route is the cheaper.

Adapter route: y = W x + gamma B (A x). Merged route: M = W + gamma B A once, y = M x; going back G = V'X once, from which
grad_B = gamma G A' and grad_A = gamma B'G. For n rows and widths d_in, d_out the first costs 4 n d_in d_out + 6 n r (d_in + d_out)
operations a step, the second 6 n d_in d_out + 6 d_in d_out r: high ranks on few rows are cheaper merged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

Route = Literal["adapter", "merged"]


def adapter_cost(*, n: int, d_in: int, d_out: int, r: int, back: bool = True) -> int:
    """Floating-point operations of a step on the adapter route; `back`: whether the input needs a gradient."""
    base = 2 * n * d_in * d_out
    forward = 2 * n * r * (d_in + d_out)
    factors = 2 * n * r * (d_out + d_in + d_out)  # V B, (V B)'X, V'(X A')
    return base + forward + factors + (base + 2 * n * r * d_in if back else 0)


def merged_cost(*, n: int, d_in: int, d_out: int, r: int, back: bool = True) -> int:
    """Floating-point operations of a step on the merged route."""
    base, small = 2 * n * d_in * d_out, 2 * d_in * d_out * r
    return small + base + (base if back else 0) + base + 2 * small


def rank_probe_cost(*, n: int, d_in: int, d_out: int, r: int, have_h: bool) -> int:
    """Operations of |H B'|^2 = <H'H, B'B> with H = X A'."""
    return 2 * r * r * (n + d_out) + (0 if have_h else 2 * n * r * d_in)


def weight_probe_cost(*, n: int, d_in: int, d_out: int) -> int:
    """Operations of |X D'|^2 = <D X'X, D> for an added weight D at hand."""
    return 2 * n * d_in * d_in + 2 * d_in * d_in * d_out


def route(*, n: int, d_in: int, d_out: int, r: int, probe: bool, may_merge: bool = True) -> Route:
    """The cheaper route for one configuration's rows at a linear.

    Args: may_merge=False where the weight's dtype is coarser than the factors': a merged weight would round the update away.
    """
    if not may_merge:
        return "adapter"
    adapter, merged = (step_cost(route=way, n=n, d_in=d_in, d_out=d_out, r=r, probe=probe) for way in ("adapter", "merged"))
    return "merged" if merged < adapter else "adapter"


def step_cost(*, route: Route, n: int, d_in: int, d_out: int, r: int, probe: bool, back: bool = True) -> int:
    """Operations of one configuration's step at one linear, its probe included."""
    sizes = {"n": n, "d_in": d_in, "d_out": d_out, "r": r}
    if route == "adapter":
        return adapter_cost(**sizes, back=back) + (rank_probe_cost(**sizes, have_h=True) if probe else 0)
    probing = min(rank_probe_cost(**sizes, have_h=False), weight_probe_cost(n=n, d_in=d_in, d_out=d_out)) if probe else 0
    return merged_cost(**sizes, back=back) + probing


ENTRY = 60
"""What every entry of a factor costs a step beside the products, in operations of equal time: its way through memory and the optimizer."""


def run_cost(*, rank: int, tokens: int, widths: Sequence[tuple[int, int]]) -> float:
    """Operations of a step of one configuration on linears of (d_out, d_in), to balance work by."""
    total = 0.0
    for d_out, d_in in widths:
        way = route(n=tokens, d_in=d_in, d_out=d_out, r=rank, probe=True)
        total += step_cost(route=way, n=tokens, d_in=d_in, d_out=d_out, r=rank, probe=True) + ENTRY * rank * (d_in + d_out)
    return total
