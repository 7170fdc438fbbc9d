"""What a linear with an adapter costs in multiplications, by either of two routes, and which route is the cheaper.

Adapter route: y = W x + gamma B (A x). Merged route: M = W + gamma B A once, y = M x; going back G = V'X once, from which
grad_B = gamma G A' and grad_A = gamma B'G. For n rows and widths d_in, d_out the first costs 4 n d_in d_out + 6 n r (d_in + d_out)
operations a step, the second 6 n d_in d_out + 6 d_in d_out r: high ranks on few rows are cheaper merged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from rsverify.training.products import WORTH

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


DIRECT = 2.0
"""How much faster oneDNN's products run than the BLAS of torch, where it takes them (`products`)."""
NARROW, NARROW_DIRECT = 6, 18
"""Width at which a product of either library reaches half of its speed, measured on 64 to 512 rows and widths of 4 to 512."""


def product_time(m: int, k: int, n: int, *, alone: bool) -> float:
    """Time of one product of a batch, in operations of full speed of the BLAS; `alone` says that the batch is one."""
    operations, narrow = 2 * m * k * n, min(m, k, n)
    if alone and operations >= WORTH:
        return operations * (1 + NARROW_DIRECT / narrow) / DIRECT
    return operations * (1 + NARROW / narrow)


def direct_time(*, n: int, d_in: int, d_out: int, r: int, alone: bool) -> tuple[float, float]:
    """Time of a step at one linear in the pass written out by hand, on the adapter and on the merged route.

    By time, not operations: narrow products run at a fraction of the speed. The frozen weight's products take the rows of many.
    """

    def time(*shapes: tuple[int, int, int]) -> float:
        return sum(product_time(*shape, alone=alone) for shape in shapes)

    base = 2 * n * d_in * d_out / DIRECT
    adapter = 2 * base + time((n, d_in, r), (n, r, d_out), (n, d_out, r), (n, r, d_in), (r, n, d_in), (d_out, n, r))
    merged = base + time((d_out, r, d_in), (n, d_in, d_out), (n, d_out, d_in), (d_out, n, d_in), (d_out, d_in, r), (r, d_out, d_in))
    return adapter, merged


def direct_route(*, n: int, d_in: int, d_out: int, r: int, alone: bool) -> Route:
    """The faster route in the pass written out by hand."""
    adapter, merged = direct_time(n=n, d_in=d_in, d_out=d_out, r=r, alone=alone)
    return "merged" if merged < adapter else "adapter"


ENTRY = 60
"""What every entry of a factor costs a step beside the products, in operations of equal time: its way through memory and the optimizer."""


def run_cost(*, rank: int, tokens: int, widths: Sequence[tuple[int, int]], direct: bool = False, alone: bool = False) -> float:
    """Operations of a step of one configuration on linears of (d_out, d_in), to balance work by; time in such where `direct`."""
    total = 0.0
    for d_out, d_in in widths:
        if direct:
            total += min(direct_time(n=tokens, d_in=d_in, d_out=d_out, r=rank, alone=alone))
        else:
            way = route(n=tokens, d_in=d_in, d_out=d_out, r=rank, probe=True)
            total += step_cost(route=way, n=tokens, d_in=d_in, d_out=d_out, r=rank, probe=True)
        total += ENTRY * rank * (d_in + d_out)
    return total
