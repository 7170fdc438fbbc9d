"""The linear of many configurations once more, without autograd: products in the order in which they are cheapest, sums fused.

What `blocklinear` does for any model this does for a forward and backward pass written out by hand. The norm of what the adapters
add is read off that sum itself while it lies in the cache, before the frozen weight's product is added to it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from rsverify.training.autograd.block_linear import Part, Pass, base_rows
from rsverify.training.products import add_batched, batched, times
from rsverify.training.stack.cost import direct_route


@dataclass
class Used:
    """A linear on the way back: its input, and what each part kept (X A' on the adapter route, W + gamma B A on the merged one)."""

    name: str
    weight: Tensor
    X: Tensor
    plan: list[tuple[Part, str]]
    kept: list[Tensor] = field(default_factory=list)


def forward(run: Pass, name: str, weight: Tensor, X: Tensor) -> tuple[Tensor, Used]:
    """W x + gamma B A x, configuration by configuration. Shapes: X (copies, n, d_in); result (copies, n, d_out)."""
    (copies, n, d_in), d_out = X.shape, weight.shape[0]
    used = Used(name, weight, X, _plan(run, name, n=n, weight=weight))
    if not used.plan:
        return times(X.view(-1, d_in), weight).view(copies, n, d_out), used
    whole = len(used.plan) == 1 and used.plan[0][0].hi - used.plan[0][0].lo == copies
    added = None if whole else _sum_for(used.plan, copies, X.new_empty((copies, n, d_out)))
    for part, way in used.plan:
        at = part.group.scaled_views(name, part.rows)
        mine, out = (X, None) if added is None else (X[part.lo : part.hi], added[part.lo : part.hi])
        if way == "adapter":
            h = batched(mine, at.A.mT)
            found = batched(h, at.scaled_B.mT, out=out)
            used.kept.append(h)
        else:
            D = batched(at.scaled_B, at.A)
            found = batched(mine, D.mT, out=out)
            used.kept.append(D.add_(weight))
        if added is None:
            added = found
    assert added is not None
    if run.probe:
        run.norms.append(torch.linalg.vector_norm(added.view(copies, -1), dim=1))
        for part, _ in used.plan:
            for copy in range(part.lo, part.hi):
                run.entries[copy] += n * d_out
    return times(X.view(-1, d_in), weight, plus=added.view(-1, d_out)).view(copies, n, d_out), used


def backward(run: Pass, used: Used, V: Tensor, *, into: Tensor | None, back: bool) -> Tensor | None:
    """Gradients of the factors into the flat buffers; the signal of the input, added to `into`, where `back`.

    Shapes: V (copies, n, d_out); result (copies, n, d_in).
    """
    name, weight, X = used.name, used.weight, used.X
    (copies, n, d_in), d_out = X.shape, weight.shape[0]
    if run.reader is not None:
        run.reader(name, X, V)
    found = into
    if back:
        for lo, hi in base_rows(copies, used.plan):
            if hi - lo == copies:
                plus = None if into is None else into.view(-1, d_in)
                found = times(V.view(-1, d_out), weight.t(), plus=plus).view(copies, n, d_in)
            else:
                found = X.new_empty(X.shape) if found is None else found
                plus = None if into is None else into[lo:hi].view(-1, d_in)
                found[lo:hi] = times(V[lo:hi].view(-1, d_out), weight.t(), plus=plus).view(hi - lo, n, d_in)
    for (part, way), kept in zip(used.plan, used.kept, strict=True):
        group, at = part.group, part.group.scaled_views(name, part.rows)
        whole = part.hi - part.lo == copies
        mine, signal = (X, V) if whole else (X[part.lo : part.hi], V[part.lo : part.hi])
        if way == "adapter":
            if group.trains[group.up]:
                torch.mul(batched(signal.mT, kept), at.gamma, out=at.grad_B)
            if back or group.trains[group.down]:
                u = batched(signal, at.scaled_B)
                if back:
                    assert found is not None
                    found = _add(found, part, whole, u, at.A)
                if group.trains[group.down]:
                    at.grad_A.copy_(batched(u.mT, mine))
        else:
            if back and into is None:
                found = batched(signal, kept) if whole else _put(found, X, part, batched(signal, kept))
            elif back:
                assert found is not None
                found = _add(found, part, whole, signal, kept)
            G = batched(signal.mT, mine)
            if group.trains[group.up]:
                torch.mul(batched(G, at.A.mT), at.gamma, out=at.grad_B)
            if group.trains[group.down]:
                at.grad_A.copy_(batched(at.scaled_B.mT, G))
    return found if back else None


def _add(found: Tensor, part: Part, whole: bool, a: Tensor, b: Tensor) -> Tensor:
    if whole:
        return add_batched(found, a, b)
    rows = found[part.lo : part.hi]
    if (added := add_batched(rows, a, b)) is not rows:
        rows.copy_(added)
    return found


def _put(found: Tensor | None, X: Tensor, part: Part, value: Tensor) -> Tensor:
    found = torch.empty_like(X) if found is None else found
    found[part.lo : part.hi] = value
    return found


def _sum_for(plan: list[tuple[Part, str]], copies: int, empty: Tensor) -> Tensor:
    """Room for what the adapters add, zero where a configuration does not adapt this linear."""
    return empty if sum(part.hi - part.lo for part, _ in plan) == copies else empty.zero_()


def _plan(run: Pass, name: str, *, n: int, weight: Tensor) -> list[tuple[Part, str]]:
    if name not in run.plans:
        d_out, d_in = weight.shape
        run.plans[name] = [
            (part, direct_route(n=n, d_in=d_in, d_out=d_out, r=part.group.rank, alone=run.copies == 1))
            for part in run.parts
            if (name, part.group.down) in part.group.places
        ]
    return run.plans[name]
