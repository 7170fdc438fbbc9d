"""A frozen linear whose rows belong to many configurations, each with its own low-rank adapter.

One large product with the frozen weight serves all configurations on the adapter route; the adapters of one rank are one
batched product. The backward pass sends the signal on, writes the factors' gradients into the flat buffers, and never
forms a gradient of the weight. Norms of what the adapters add come from r x r Gram matrices, no output being kept apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from rsverify.training.adapters.attach import linear_at
from rsverify.training.native.adam import Stepping
from rsverify.training.stack.cost import rank_probe_cost, route, weight_probe_cost
from rsverify.training.stack.layout import Group


@dataclass
class Part:
    """The rows of one group in a pass: copies [lo, hi) of the folded batch, rows `rows` of the group.

    `stepping` is their update where the native kernels take it along with the gradients.
    """

    group: Group
    lo: int
    hi: int
    rows: slice
    stepping: Stepping | None = None


@dataclass
class Pass:
    """One forward and backward of some neighbouring configurations: which rows are whose, and what is read on the way.

    `entries` counts the numbers that adapters add for each copy; `reader` is handed (name, X, V) of every linear on the way back;
    `norms` and `plans` belong to the pass written out by hand.

    Shapes: output_square (copies,), the squared norm of what the adapters add, summed over layers.
    """

    copies: int
    parts: list[Part]
    probe: bool
    output_square: Tensor
    anchor: Tensor
    entries: list[int]
    reader: Callable[[str, Tensor, Tensor], None] | None = None
    written: set[tuple[int, str]] = field(default_factory=set)
    grams: dict[tuple[Any, ...], tuple[Tensor, Tensor]] = field(default_factory=dict)
    norms: list[Tensor] = field(default_factory=list)
    plans: dict[str, list[tuple[Part, str]]] = field(default_factory=dict)


class _BlockLinear(torch.autograd.Function):
    """y = W x + gamma B A x, block by block. `anchor` only makes autograd come back here where x needs no gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, anchor: Tensor, linear: nn.Linear, name: str, run: Pass) -> Tensor:
        weight, bias = linear.weight, linear.bias
        d_out, d_in = weight.shape
        X = x.reshape(run.copies, -1, d_in)
        n = X.shape[1]
        Y = torch.empty((run.copies, n, d_out), dtype=x.dtype, device=x.device)
        plan = _plan(run, name, n=n, weight=weight)
        for lo, hi in base_rows(run.copies, plan):
            rows, out = X[lo:hi].view(-1, d_in), Y[lo:hi].view(-1, d_out)
            torch.mm(rows, weight.t(), out=out) if bias is None else torch.addmm(bias, rows, weight.t(), out=out)
        kept: list[Tensor] = []
        for part, way in plan:
            at = part.group.views(name, part.rows)
            mine, out = X[part.lo : part.hi], Y[part.lo : part.hi]
            if way == "adapter":
                h = torch.bmm(mine, at.A.mT).mul_(at.gamma)
                out.baddbmm_(h, at.B.mT)
                if run.probe:
                    _add(run, part, _gram_square(h, at.B), n * d_out)
                kept.append(h)
            else:
                B = at.gamma * at.B
                D = torch.bmm(B, at.A)
                if run.probe:
                    _add(run, part, _merged_square(run, part, x, mine, D, at.A, B), n * d_out)
                D += weight
                torch.bmm(mine, D.mT, out=out)
                if bias is not None:
                    out += bias
                kept.append(D)
        ctx.save_for_backward(X, *kept)
        ctx.set_materialize_grads(False)
        ctx.linear, ctx.name, ctx.run, ctx.plan, ctx.shape = linear, name, run, plan, x.shape
        return Y.view(*x.shape[:-1], d_out)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (v,) = gradients
        if v is None:
            return (None,) * 5
        X, *kept = ctx.saved_tensors
        run, name, weight = ctx.run, ctx.name, ctx.linear.weight
        d_out, d_in = weight.shape
        V = v.reshape(run.copies, -1, d_out)
        if run.reader is not None:
            run.reader(name, X, V)
        back = torch.empty_like(X) if ctx.needs_input_grad[0] else None
        if back is not None:
            for lo, hi in base_rows(run.copies, ctx.plan):
                torch.mm(V[lo:hi].view(-1, d_out), weight, out=back[lo:hi].view(-1, d_in))
        for (part, way), saved in zip(ctx.plan, kept, strict=True):
            group, at = part.group, part.group.views(name, part.rows)
            mine, signal = X[part.lo : part.hi], V[part.lo : part.hi]
            if way == "adapter":
                if group.trains[group.up]:
                    _write(run, part, name, at.grad_B, torch.bmm(signal.mT, saved))
                if back is not None or group.trains[group.down]:
                    u = torch.bmm(signal, at.B).mul_(at.gamma)
                    if back is not None:
                        back[part.lo : part.hi].baddbmm_(u, at.A)
                    if group.trains[group.down]:
                        _write(run, part, name, at.grad_A, torch.bmm(u.mT, mine))
            else:
                if back is not None:
                    torch.bmm(signal, saved, out=back[part.lo : part.hi])
                G = torch.bmm(signal.mT, mine).mul_(at.gamma)
                if group.trains[group.up]:
                    _write(run, part, name, at.grad_B, torch.bmm(G, at.A.mT))
                if group.trains[group.down]:
                    _write(run, part, name, at.grad_A, torch.bmm(at.B.mT, G))
        return None if back is None else back.view(ctx.shape), None, None, None, None


def _plan(run: Pass, name: str, *, n: int, weight: Tensor) -> list[tuple[Part, str]]:
    d_out, d_in = weight.shape
    found = []
    for part in run.parts:
        if (name, part.group.down) in part.group.places:
            # A merged weight in a coarser dtype than the factors' would round small updates away.
            fine = weight.dtype == part.group.w.dtype
            found.append((part, route(n=n, d_in=d_in, d_out=d_out, r=part.group.rank, probe=run.probe, may_merge=fine)))
    return found


def base_rows(copies: int, plan: list[tuple[Part, str]]) -> Iterator[tuple[int, int]]:
    """Ranges of copies that need the product with the frozen weight: all but the merged ones."""
    lo = 0
    for part, way in sorted(plan, key=lambda pair: pair[0].lo):
        if way == "merged":
            if lo < part.lo:
                yield lo, part.lo
            lo = part.hi
    if lo < copies:
        yield lo, copies


def _add(run: Pass, part: Part, square: Tensor, entries: int) -> None:
    run.output_square[part.lo : part.hi] += square
    for copy in range(part.lo, part.hi):
        run.entries[copy] += entries


def _merged_square(run: Pass, part: Part, x: Tensor, X: Tensor, D: Tensor, A: Tensor, B: Tensor) -> Tensor:
    """|D X'|^2 per configuration, D = B A (gamma inside B), by the cheaper of two Gram routes."""
    (n, d_in), (d_out, r) = X.shape[1:], B.shape[1:]
    if rank_probe_cost(n=n, d_in=d_in, d_out=d_out, r=r, have_h=False) < weight_probe_cost(n=n, d_in=d_in, d_out=d_out):
        return _gram_square(torch.bmm(X, A.mT), B)
    key = (x.data_ptr(), x._version, x.shape, part.lo)  # linears that read one input (q, k, v) share its Gram matrix
    if key not in run.grams:
        # Holding x's storage keeps its address from being given to another; detached, as a pass that held the graph which holds
        # the pass would never be freed.
        run.grams[key] = (x.detach(), torch.bmm(X.mT, X))
    return (torch.bmm(D, run.grams[key][1]) * D).sum((1, 2))


def _gram_square(h: Tensor, B: Tensor) -> Tensor:
    """|h B'|^2 per configuration from two r x r Gram matrices. Shapes: h (configurations, n, r), B (configurations, d_out, r)."""
    return (torch.bmm(h.mT, h) * torch.bmm(B.mT, B)).sum((1, 2))


def _write(run: Pass, part: Part, name: str, into: Tensor, value: Tensor) -> None:
    """A factor's gradient into the flat buffer; added where the linear was used more than once in this pass."""
    key = (id(into), name)
    if key in run.written:
        into += value
    else:
        into.copy_(value)
        run.written.add(key)


class Switch:
    """What the patched linears of a model do now: `run` for a pass of many configurations, None = the bare model.

    `scale` multiplies the output of every target copy by copy; only the test of whether a model can be folded uses it.
    `called` gathers the targets that the model's forward has really used, `rows` the most rows that one of them saw bare.
    """

    def __init__(self) -> None:
        self.run: Pass | None = None
        self.scale: Tensor | None = None
        self.called: set[str] = set()
        self.rows = 0


@contextmanager
def patched(model: nn.Module, targets: tuple[str, ...]) -> Iterator[Switch]:
    """The model frozen and in eval mode, its target linears under a switch; on exit it is exactly what it was."""
    switch = Switch()

    def forward_of(linear: nn.Linear, name: str) -> Any:
        bare = linear.forward

        def forward(x: Tensor) -> Tensor:
            switch.called.add(name)
            if switch.run is not None:
                return _BlockLinear.apply(x, switch.run.anchor, linear, name, switch.run)  # type: ignore[return-value]
            y = bare(x)
            switch.rows = max(switch.rows, y.numel() // y.shape[-1])
            if switch.scale is not None:
                copies = switch.scale.shape[0]
                y = (y.reshape(copies, -1) * switch.scale[:, None].to(y.dtype)).view(y.shape)
            return y

        return forward

    with ExitStack() as undo:
        for parameter in model.parameters():
            undo.callback(parameter.requires_grad_, parameter.requires_grad)
            parameter.requires_grad_(False)
        for module in model.modules():
            undo.callback(setattr, module, "training", module.training)
        model.eval()
        for name in targets:
            linear = linear_at(model, name)
            before = linear.__dict__.get("forward")  # other libraries' hooks live there too
            undo.callback(linear.__dict__.pop, "forward", None) if before is None else undo.callback(setattr, linear, "forward", before)
            linear.forward = forward_of(linear, name)
        yield switch
