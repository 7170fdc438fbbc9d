"""What a factory of modules must keep to before its numbers mean anything, looked at with one module a rank, before work starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rsverify.definitions.targets import Build
from rsverify.errors import InputError


@dataclass(frozen=True)
class Usable:
    """The ranks at which a factory works, and why it does not at the others."""

    ranks: tuple[int, ...]
    refused: dict[int, str]

    @property
    def note(self) -> str:
        """What a row says of the ranks that are left out; empty where none is."""
        if not self.refused:
            return ""
        reason = next(iter(self.refused.values()))
        return f"the factory builds nothing at rank {', '.join(map(str, self.refused))} ({reason}): left out"


def usable(build: Build, ranks: Sequence[int], *, d_in: int, d_out: int, alpha: float, name: str) -> Usable:
    """Which of the ranks a factory works at.

    Raises: InputError, with cause and cure, for a factory that returns no module, another shape or nothing to train, trains its base,
        draws in its forward pass, ignores the rank, or builds at fewer than two ranks; the factory's own exception is its cause.
    """
    looks: dict[int, tuple[int, Any]] = {}
    refused: dict[int, str] = {}
    last: Exception | None = None
    for rank in ranks:
        try:
            module, base = _built(build, rank, d_in=d_in, d_out=d_out, alpha=alpha)
        except Exception as error:  # whatever an own factory raises
            refused[rank], last = f"{type(error).__name__}: {str(error).strip() or 'no message'}", error
            continue
        looks[rank] = _look(module, base, rank=rank, d_in=d_in, d_out=d_out, name=name)
    if len(looks) < 2:
        where = "at any of the ranks" if not looks else f"at more than rank {next(iter(looks))} of the ranks"
        shown = "; ".join(f"rank {rank}: {reason}" for rank, reason in list(refused.items())[:3])
        raise InputError(
            f"{name} does not build {where} {', '.join(map(str, ranks))} on a layer of {d_in} inputs and {d_out} outputs ({shown}); "
            "an exponent needs two ranks: give ranks that it can have with --ranks, or mend the factory"
        ) from last
    _refuse_constant(looks, name)
    return Usable(tuple(looks), refused)


def _built(build: Build, rank: int, *, d_in: int, d_out: int, alpha: float) -> tuple[Any, Any]:
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        base = torch.nn.Linear(d_in, d_out, bias=False, dtype=torch.float64)
        return build(rank, base, alpha), base


def _look(module: Any, base: Any, *, rank: int, d_in: int, d_out: int, name: str) -> tuple[int, Any]:
    """Trained entries, and the gradients of a first step: what must not be the same at every rank."""
    import torch

    if not isinstance(module, torch.nn.Module):
        raise InputError(f"{name}: build(rank={rank}, ...) returned {type(module).__name__}; expected a torch.nn.Module, the adapted layer")
    module = module.double()
    trained = [p for p in module.parameters() if p.requires_grad]
    if any(p is base.weight for p in trained):
        raise InputError(f"{name}: the base layer's weight is trained too; expected a frozen base: base.requires_grad_(False)")
    if not trained:
        raise InputError(f"{name}: no parameter requires a gradient; expected the adapter's own to")
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(1)
        x, v = torch.randn(2, d_in, dtype=torch.float64), torch.randn(2, d_out, dtype=torch.float64)
        y = module(x)
        if not isinstance(y, torch.Tensor) or y.shape != (2, d_out):
            shown = tuple(y.shape) if isinstance(y, torch.Tensor) else type(y).__name__
            raise InputError(f"{name}: on x of shape (2, {d_in}) the layer returned {shown}; expected (2, {d_out}), as its base does")
        if not torch.equal(y, module(x)):
            apart = float((y - module(x)).abs().max().detach())
            raise InputError(
                f"{name}: two forward passes on the same x differ by up to {apart:.3g}; expected a layer that draws at init alone: leave"
                " dropout and noise out"
            )
        gradients = torch.autograd.grad((y * v).sum(), trained, allow_unused=True, materialize_grads=True)
    return sum(p.numel() for p in trained), [g.detach() for g in gradients]


def _refuse_constant(looks: dict[int, tuple[int, Any]], name: str) -> None:
    import torch

    (first, (entries, gradients)), *others = looks.items()
    for _, (other_entries, other_gradients) in others:
        same = other_entries == entries and len(gradients) == len(other_gradients)
        if not same or not all(a.shape == b.shape and torch.equal(a, b) for a, b in zip(gradients, other_gradients, strict=True)):
            return
    raise InputError(
        f"{name} ignores the rank: at ranks {', '.join(map(str, looks))} it trains the same {entries} entries and its first step is the"
        f" same; expected build(rank, ...) to make a module of that rank (rank {first} was asked for first)"
    )
