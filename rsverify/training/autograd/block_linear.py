"""A frozen linear whose rows belong to many configurations, each with its own adapter.

Pairs of an up- and a down-factor: one large product with the frozen weight serves all configurations on the adapter route; the adapters
of one rank are one batched product. The backward pass sends the signal on, writes the factors' gradients into the flat buffers, and never
forms a gradient of the weight. Norms of what the adapters add come from r x r Gram matrices, no output being kept apart.
Any other kind acts by its form, and torch.autograd finds its gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rsverify.training.adapters.passes import Part, Pass
from rsverify.training.adapters.route import rank_probe_cost, route, weight_probe_cost
from rsverify.training.model.linears import linear_at


@dataclass
class Work:
    """A pass as this backend carries it out.

    `reader` is handed (name, X, V) of every linear on the way back; `leaves` are the factors of forms, by part, linear and name, whose
    gradients torch.autograd is to find.
    """

    run: Pass
    anchor: Tensor
    reader: Callable[[str, Tensor, Tensor], None] | None = None
    written: set[tuple[int, str]] = field(default_factory=set)
    grams: dict[tuple[Any, ...], tuple[Tensor, Tensor]] = field(default_factory=dict)
    leaves: dict[tuple[int, str, str], Tensor] = field(default_factory=dict)

    def settle(self) -> None:
        """Write the gradients that autograd left at the leaves into the flat buffers."""
        for (p, layer, name), leaf in self.leaves.items():
            part = self.run.parts[p]
            if part.factors.trains[name]:
                into = part.factors.places[layer, name].of(part.factors.g)[part.rows]
                into.zero_() if leaf.grad is None else into.copy_(leaf.grad)


def adapted(x: Tensor, linear: nn.Linear, name: str, work: Work) -> Tensor:
    """What an adapted linear gives for a folded batch. Shapes: x (copies * examples, ..., d_in); (copies * examples, ..., d_out)."""
    if all(part.factors.pair is not None for part in work.run.parts):
        return _BlockLinear.apply(x, work.anchor, linear, name, work)  # type: ignore[return-value]
    copies = work.run.copies
    X = x.view(copies, -1, *x.shape[1:]) if x.shape[0] % copies == 0 else x.reshape(copies, -1, x.shape[-1])
    outputs: list[Tensor] = []
    for p, part in enumerate(work.run.parts):
        mine = X[part.lo : part.hi]
        outputs.append(_by_form(mine, linear, name, work, p) if part.factors.adapts(name) else _bare(mine, linear))
    return torch.cat(outputs).view(*x.shape[:-1], linear.weight.shape[0])


def _bare(x: Tensor, linear: nn.Linear) -> Tensor:
    return F.linear(x, linear.weight, linear.bias)


def _by_form(x: Tensor, linear: nn.Linear, name: str, work: Work, p: int) -> Tensor:
    part = work.run.parts[p]
    factors, rows = part.factors, part.rows
    form, own = factors.forms[name], {}
    for factor in factors.names:
        key = (p, name, factor)
        if key not in work.leaves:
            value = factors.places[name, factor].of(factors.acting)[rows].detach()
            work.leaves[key] = value.requires_grad_(factors.trains[factor])
        own[factor] = work.leaves[key]
    fixed = {key: value[rows] if value.ndim > form.ndim[key] else value for key, value in factors.fixed[name].items()}
    y = form.output(own, fixed, factors.gamma[rows, 0, 0], x)
    if work.run.probe:
        with torch.no_grad():
            added = (y - _bare(x, linear)).flatten(1)
        _add(work.run, part, added.square().sum(1), added.shape[1])
    return y


class _BlockLinear(torch.autograd.Function):
    """y = W x + gamma B A x, block by block. `anchor` only makes autograd come back here where x needs no gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, anchor: Tensor, linear: nn.Linear, name: str, work: Work) -> Tensor:
        run = work.run
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
            at = part.factors.views(name, part.rows)
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
                    _add(run, part, _merged_square(work, part, x, mine, D, at.A, B), n * d_out)
                D += weight
                torch.bmm(mine, D.mT, out=out)
                if bias is not None:
                    out += bias
                kept.append(D)
        ctx.save_for_backward(X, *kept)
        ctx.set_materialize_grads(False)
        ctx.linear, ctx.name, ctx.work, ctx.plan, ctx.shape = linear, name, work, plan, x.shape
        return Y.view(*x.shape[:-1], d_out)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (v,) = gradients
        if v is None:
            return (None,) * 5
        X, *kept = ctx.saved_tensors
        work, name, weight = ctx.work, ctx.name, ctx.linear.weight
        run = work.run
        d_out, d_in = weight.shape
        V = v.reshape(run.copies, -1, d_out)
        if work.reader is not None:
            work.reader(name, X, V)
        back = torch.empty_like(X) if ctx.needs_input_grad[0] else None
        if back is not None:
            for lo, hi in base_rows(run.copies, ctx.plan):
                torch.mm(V[lo:hi].view(-1, d_out), weight, out=back[lo:hi].view(-1, d_in))
        for (part, way), saved in zip(ctx.plan, kept, strict=True):
            factors, at = part.factors, part.factors.views(name, part.rows)
            mine, signal = X[part.lo : part.hi], V[part.lo : part.hi]
            if way == "adapter":
                if factors.trains[factors.up]:
                    _write(work, name, at.grad_B, torch.bmm(signal.mT, saved))
                if back is not None or factors.trains[factors.down]:
                    u = torch.bmm(signal, at.B).mul_(at.gamma)
                    if back is not None:
                        back[part.lo : part.hi].baddbmm_(u, at.A)
                    if factors.trains[factors.down]:
                        _write(work, name, at.grad_A, torch.bmm(u.mT, mine))
            else:
                if back is not None:
                    torch.bmm(signal, saved, out=back[part.lo : part.hi])
                G = torch.bmm(signal.mT, mine).mul_(at.gamma)
                if factors.trains[factors.up]:
                    _write(work, name, at.grad_B, torch.bmm(G, at.A.mT))
                if factors.trains[factors.down]:
                    _write(work, name, at.grad_A, torch.bmm(at.B.mT, G))
        return None if back is None else back.view(ctx.shape), None, None, None, None


def _plan(run: Pass, name: str, *, n: int, weight: Tensor) -> list[tuple[Part, str]]:
    d_out, d_in = weight.shape
    found = []
    for part in run.parts:
        if part.factors.adapts(name):
            # A merged weight in a coarser dtype than the factors' would round small updates away.
            fine = weight.dtype == part.factors.w.dtype
            found.append((part, route(n=n, d_in=d_in, d_out=d_out, r=part.factors.rank, probe=run.probe, may_merge=fine)))
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


def _merged_square(work: Work, part: Part, x: Tensor, X: Tensor, D: Tensor, A: Tensor, B: Tensor) -> Tensor:
    """|D X'|^2 per configuration, D = B A (gamma inside B), by the cheaper of two Gram routes."""
    (n, d_in), (d_out, r) = X.shape[1:], B.shape[1:]
    if rank_probe_cost(n=n, d_in=d_in, d_out=d_out, r=r, have_h=False) < weight_probe_cost(n=n, d_in=d_in, d_out=d_out):
        return _gram_square(torch.bmm(X, A.mT), B)
    key = (x.data_ptr(), x._version, x.shape, part.lo)  # linears that read one input (q, k, v) share its Gram matrix
    if key not in work.grams:
        # Holding x's storage keeps its address from being given to another; detached, as a pass that held the graph which holds
        # the pass would never be freed.
        work.grams[key] = (x.detach(), torch.bmm(X.mT, X))
    return (torch.bmm(D, work.grams[key][1]) * D).sum((1, 2))


def _gram_square(h: Tensor, B: Tensor) -> Tensor:
    """|h B'|^2 per configuration from two r x r Gram matrices. Shapes: h (configurations, n, r), B (configurations, d_out, r)."""
    return (torch.bmm(h.mT, h) * torch.bmm(B.mT, B)).sum((1, 2))


def _write(work: Work, name: str, into: Tensor, value: Tensor) -> None:
    """A factor's gradient into the flat buffer; added where the linear was used more than once in this pass."""
    key = (id(into), name)
    if key in work.written:
        into += value
    else:
        into.copy_(value)
        work.written.add(key)


class Switch:
    """What the patched linears of a model do now: `work` for a pass of many configurations, None = the bare model.

    `scale` multiplies the output of every target copy by copy; only the test of whether a model can be folded uses it.
    `called` gathers the targets that the model's forward has really used, `rows` the most rows that one of them saw bare.
    """

    def __init__(self) -> None:
        self.work: Work | None = None
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
            if switch.work is not None:
                return adapted(x, linear, name, switch.work)
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
