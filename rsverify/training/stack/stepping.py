"""Optimizer steps of many configurations at once, in place on rows of a flat buffer, each row at its own learning rate.

Coordinatewise updates run over blocks that stay in the processor's cache, which is what fuses their elementary operations;
updates that look at matrices see each configuration's factor of each linear as one matrix of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from rsverify.definitions.optimizers import Optimizer
from rsverify.errors import InputError
from rsverify.training.adapters.factors import Place
from rsverify.training.stack.layout import Allocate, Group

BLOCK = 1 << 16
"""Entries of a block: five float32 operands of it fit into the megabyte of cache that a core has."""

NEWTON_SCHULZ = (3.4445, -4.775, 2.0315)
"""Coefficients of the quintic iteration. Source: torch.optim.Muon."""
NEWTON_SCHULZ_STEPS = 5

States = dict[str, Tensor]


def _sgd(o: Optimizer, w: Tensor, g: Tensor, s: States, lr: Tensor, t: int) -> None:
    w.sub_(_decayed(o, w, g) * lr)


def _momentum(o: Optimizer, w: Tensor, g: Tensor, s: States, lr: Tensor, t: int) -> None:
    s["m"].mul_(o.option("momentum")).add_(_decayed(o, w, g))
    w.sub_(s["m"] * lr)


def _signsgd(o: Optimizer, w: Tensor, g: Tensor, s: States, lr: Tensor, t: int) -> None:
    w.sub_(_decayed(o, w, g).sign() * lr)


def _lion(o: Optimizer, w: Tensor, g: Tensor, s: States, lr: Tensor, t: int) -> None:
    step = torch.lerp(s["m"], g, 1 - o.option("beta1")).sign_()
    if o.option("weight_decay"):
        step.add_(w, alpha=o.option("weight_decay"))
    s["m"].lerp_(g, 1 - o.option("beta2"))
    w.sub_(step.mul_(lr))


def _rmsprop(o: Optimizer, w: Tensor, g: Tensor, s: States, lr: Tensor, t: int) -> None:
    g, a = _decayed(o, w, g), o.option("alpha")
    s["s"].mul_(a).addcmul_(g, g, value=1 - a)
    w.sub_(g / s["s"].sqrt().add_(o.option("eps")) * lr)


def _adagrad(o: Optimizer, w: Tensor, g: Tensor, s: States, lr: Tensor, t: int) -> None:
    g = _decayed(o, w, g)
    s["s"].addcmul_(g, g)
    w.sub_(g / s["s"].sqrt().add_(o.option("eps")) * lr)


def _decayed(o: Optimizer, w: Tensor, g: Tensor) -> Tensor:
    """The gradient with coupled weight decay."""
    return g.add(w, alpha=o.option("weight_decay")) if o.option("weight_decay") else g


def _adafactor(o: Optimizer, w: Tensor, g: Tensor, s: States, lr: Tensor, t: int) -> None:
    """Shapes: w, g (configurations, rows, columns); s["rows"] (configurations, rows, 1); s["columns"] (configurations, 1, columns)."""
    new, eps1 = t ** o.option("beta2_decay"), torch.finfo(w.dtype).eps
    square = g.square()
    rows = s["rows"].lerp_(square.mean(2, keepdim=True), new)
    columns = s["columns"].lerp_(square.mean(1, keepdim=True), new)
    estimate = rows * columns / rows.mean(1, keepdim=True).clamp_(min=eps1)
    update = g * estimate.clamp_(min=eps1 * eps1).rsqrt_()
    size = _rms(w).clamp_(min=o.option("eps2"))  # before the decay, as torch.optim.Adafactor
    if o.option("weight_decay"):
        w.mul_(1 - lr * o.option("weight_decay"))
    much = (_rms(update) / o.option("d")).clamp_(min=1.0)
    w.sub_(update * (size * lr.clamp(max=t**-0.5) / much))


def _muon(o: Optimizer, w: Tensor, g: Tensor, s: States, lr: Tensor, t: int) -> None:
    """Shapes: w, g, s["m"] (configurations, rows, columns)."""
    s["m"].mul_(o.option("momentum")).add_(g)
    _decoupled(o, w, lr)
    w.sub_(polar(g + o.option("momentum") * s["m"]) * lr)


def _muon_torch(o: Optimizer, w: Tensor, g: Tensor, s: States, lr: Tensor, t: int) -> None:
    s["m"].lerp_(g, 1 - o.option("momentum"))
    update = newton_schulz(torch.lerp(g, s["m"], o.option("momentum")))
    _decoupled(o, w, lr)
    w.sub_(update * (lr * max(1.0, w.shape[1] / w.shape[2]) ** 0.5))


def _decoupled(o: Optimizer, w: Tensor, lr: Tensor) -> None:
    if o.option("weight_decay"):
        w.mul_(1 - lr * o.option("weight_decay"))


def _rms(values: Tensor) -> Tensor:
    return values.square().mean((1, 2), keepdim=True).sqrt_()


def polar(matrices: Tensor) -> Tensor:
    """U V' of the nonzero singular values of each matrix; a matrix that is not finite gives NaN.

    A singular value below max(shape) * eps of the largest is rounding and counts as zero.
    """
    finite = matrices.isfinite().all(2, keepdim=True).all(1, keepdim=True)
    U, values, Vh = torch.linalg.svd(torch.where(finite, matrices, 0.0), full_matrices=False)
    floor = values[:, :1] * (torch.finfo(matrices.dtype).eps * max(matrices.shape[1:]))
    found = (U * (values > floor).to(U.dtype)[:, None, :]) @ Vh
    return torch.where(finite, found, torch.nan)


def newton_schulz(matrices: Tensor) -> Tensor:
    """Five quintic Newton-Schulz steps towards U V', as torch.optim.Muon takes them but in the dtype of the matrices."""
    a, b, c = NEWTON_SCHULZ
    X = matrices.mT if matrices.shape[1] > matrices.shape[2] else matrices
    X = X / torch.linalg.vector_norm(X, dim=(1, 2), keepdim=True).clamp_(min=1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = torch.bmm(X, X.mT)
        X = torch.baddbmm(X, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), X, beta=a)
    return X.mT if matrices.shape[1] > matrices.shape[2] else X


Update = Callable[[Optimizer, Tensor, Tensor, States, Tensor, int], None]

ENTRYWISE: Mapping[str, tuple[Update, tuple[str, ...]]] = {
    "sgd": (_sgd, ()), "momentum": (_momentum, ("m",)), "signsgd": (_signsgd, ()), "lion": (_lion, ("m",)),
    "rmsprop": (_rmsprop, ("s",)), "adagrad": (_adagrad, ("s",)),
}  # fmt: skip
"""Update and names of its running moments, each of the shape of the factors."""

MATRIX: Mapping[str, tuple[Update, tuple[str, ...]]] = {
    "adafactor": (_adafactor, ("rows", "columns")), "muon": (_muon, ("m",)), "muon-torch": (_muon_torch, ("m",)),
}  # fmt: skip


FUSED: Mapping[str, Callable[..., None]] = {"adam": torch._fused_adam_, "adamw": torch._fused_adamw_}
"""Where torch has a fused kernel, taken without torch.optim's bookkeeping around it; a block at a time took 3.5 times as long."""


def silent_on_step(optimizer: Optimizer) -> str | None:
    """Why stacked training has no update for an optimizer; None where it has."""
    known = [*ENTRYWISE, *FUSED, *MATRIX]
    if optimizer.name not in known:
        return f"stacked training has no update for {optimizer.name}; it steps with {', '.join(known)}"
    return None


def state_names(optimizer: Optimizer) -> tuple[str, ...]:
    """Names of the running moments of an update."""
    return ("m", "s") if optimizer.name in FUSED else (ENTRYWISE.get(optimizer.name) or MATRIX[optimizer.name])[1]


def new_states(group: Group, rows: slice, optimizer: Optimizer, allocate: Allocate = torch.zeros) -> States:
    """The running moments of some rows of a group at rest. Shapes: (configurations, columns), shorter for row and column means."""
    count = rows.stop - rows.start
    widths = {name: group.factors.columns for name in state_names(optimizer)}
    if optimizer.name in MATRIX:
        _refuse_other_than_matrices(group, optimizer)
    if optimizer.name == "adafactor":
        places = group.factors.places.values()
        widths = {"rows": sum(place.shape[0] for place in places), "columns": sum(place.shape[-1] for place in places)}
    return {name: allocate((count, width), device=group.factors.w.device, dtype=group.factors.w.dtype) for name, width in widths.items()}


def _refuse_other_than_matrices(group: Group, optimizer: Optimizer) -> None:
    """Updates that look at a factor as a matrix have none for vectors and stacks of matrices."""
    for (_, name), place in group.factors.places.items():
        if group.factors.trains[name] and len(place.shape) != 2:
            raise InputError(
                f"{optimizer.name} steps along matrices; {name} of {group.configurations[0].adapter.name} has shape {place.shape}:"
                " take an optimizer that steps entry by entry, e.g. adamw"
            )


def step(group: Group, rows: slice, optimizer: Optimizer, states: States, *, t: int, norms: Tensor | None = None) -> None:
    """One step of some rows of a group, from their gradients in the flat buffer.

    Args: t counts steps from 1; norms are the gradient norms of the rows, which a bound on them (`clip`) needs.
    """
    w, g = group.factors.w[rows], group.factors.g[rows]
    if optimizer.option("clip"):
        assert norms is not None
        g.mul_((optimizer.option("clip") / (norms + 1e-6)).clamp_(max=1.0)[:, None])  # as torch.nn.utils.clip_grad_norm_
    for factor in group.factors.trained:
        lr = group.factors.lr[factor][rows]
        if optimizer.name in MATRIX:
            _matrix_step(group, factor, optimizer, w, g, states, lr, t)
        elif optimizer.name in FUSED:
            _fused_step(group, rows, factor, optimizer, w, g, states, t)
        else:
            update = ENTRYWISE[optimizer.name][0]
            for block in _blocks(w, group.factors.columns_of(factor)):
                part = {name: value[block] for name, value in states.items()}
                update(optimizer, w[block], g[block], part, lr[block[0]], t)


def _fused_step(group: Group, rows: slice, factor: str, optimizer: Optimizer, w: Tensor, g: Tensor, states: States, t: int) -> None:
    """Torch's own single-pass kernel, on neighbouring rows of equal learning rate together."""
    columns = group.factors.columns_of(factor)
    names = group.factors.names
    whole = group.factors.trained == names and all(group.lrs[name] == group.lrs[names[0]] for name in names)
    if whole:
        if factor != names[0]:
            return  # done with the first factor
        columns = slice(0, group.factors.columns)
    lrs = group.lrs[factor][rows]
    count = torch.full((), float(t), device=w.device, dtype=torch.float32)
    start = 0
    for stop in range(1, len(lrs) + 1):
        if stop < len(lrs) and lrs[stop] == lrs[start]:
            continue
        # The kernel reads memory in a row: whole rows together, parts of rows one by one.
        pieces = [slice(start, stop)] if whole else [slice(row, row + 1) for row in range(start, stop)]
        cut = [[value[piece, columns].flatten() for piece in pieces] for value in (w, g, states["m"], states["s"])]
        FUSED[optimizer.name](
            *cut, [], [count] * len(pieces), amsgrad=False, beta1=optimizer.option("beta1"),
            beta2=optimizer.option("beta2"), lr=lrs[start], weight_decay=optimizer.option("weight_decay"),
            eps=optimizer.option("eps"), maximize=False,
        )  # fmt: skip
        start = stop


def _matrix_step(group: Group, factor: str, optimizer: Optimizer, w: Tensor, g: Tensor, states: States, lr: Tensor, t: int) -> None:
    update = MATRIX[optimizer.name][0]
    offsets: dict[str, int] = {"rows": 0, "columns": 0}
    for (_, name), place in group.factors.places.items():
        sizes = {"rows": place.shape[0], "columns": place.shape[-1]}
        if name == factor:
            update(optimizer, place.of(w), place.of(g), _matrix_states(states, place, offsets), lr[:, :, None], t)
        for key, size in sizes.items():
            offsets[key] += size


def _matrix_states(states: States, place: Place, offsets: Mapping[str, int]) -> States:
    if "m" in states:
        return {"m": place.of(states["m"])}
    rows = states["rows"][:, offsets["rows"] : offsets["rows"] + place.shape[0], None]
    return {"rows": rows, "columns": states["columns"][:, None, offsets["columns"] : offsets["columns"] + place.shape[1]]}


def _blocks(w: Tensor, columns: slice) -> Iterator[tuple[slice, slice]]:
    """Blocks of rows and columns that fit the cache; on other devices than the CPU the whole at once."""
    count, width = w.shape[0], columns.stop - columns.start
    if w.device.type != "cpu":
        yield slice(0, count), columns
        return
    high = max(1, BLOCK // max(1, width))
    for top in range(0, count, high):
        for left in range(columns.start, columns.stop, BLOCK):
            yield slice(top, min(top + high, count)), slice(left, min(left + BLOCK, columns.stop))
