"""LoRA of any rank under SGD at the price of a dense layer: the rank enters through one draw of A_0'A_0 and nowhere else.

From B_0 = 0 every step of SGD keeps B = Q A_0' and A = A_0 M, with Q and M free of A_0's rows: the adapter is
gamma Q S M with S = A_0'A_0, and the step is the one that B and A would take, written in these coordinates. For Gaussian A
the law of S is Wishart's with r degrees of freedom, drawn at any r in one go.
Source: the lemma sgd-keeps-the-form in `proofs/`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rsverify.definitions.optimizers import Optimizer
from rsverify.errors import InputError
from rsverify.statistics.streams import stream
from rsverify.statistics.wishart import gram, wishart_factor
from rsverify.training.model.linears import linear_at

KEEPS_THE_FORM = ("sgd", "momentum")
"""Optimizers whose step is linear in the gradients: any other sees single entries or whole matrices of A, which are not here."""


class RankFree(nn.Module):
    """gamma Q S M as a map on data, with the gradients that B and A of a LoRA of any rank would send to Q and M.

    Those are not the gradients of the loss in Q and M: a step of Q by `Q.grad` is the step of B by B's own gradient, since
    dB = (gamma v (M x)') A_0', and likewise dA = A_0 (gamma Q'v x').

    Shapes: S (d_in, d_in), Q (d_out, d_in), M (d_in, d_in); x (..., d_in), result (..., d_out).
    """

    Q: nn.Parameter
    M: nn.Parameter
    S: Tensor

    def __init__(self, S: Tensor, *, d_out: int, gamma: float) -> None:
        super().__init__()
        if S.ndim != 2 or S.shape[0] != S.shape[1]:
            raise InputError(f"S of shape {tuple(S.shape)}; expected A_0'A_0, square of size d_in")
        self.gamma = gamma
        self.register_buffer("S", S)
        self.Q = nn.Parameter(S.new_zeros(d_out, len(S)))
        self.M = nn.Parameter(torch.eye(len(S), dtype=S.dtype, device=S.device))

    def forward(self, x: Tensor) -> Tensor:
        flat: Any = _Apply.apply(x.reshape(-1, x.shape[-1]), self.Q, self.M, self.S, self.gamma)
        return flat.view(*x.shape[:-1], -1)

    def delta(self) -> Tensor:
        """The weight that the adapter adds. Shapes: (d_out, d_in)."""
        return self.gamma * (self.Q @ self.S @ self.M).detach()

    def gradient_norm2(self) -> Tensor:
        """|dB|**2 + |dA|**2 of the LoRA that this stands for, after a backward pass."""
        gQ, gM = self.Q.grad, self.M.grad
        assert gQ is not None and gM is not None
        return ((gQ @ self.S) * gQ).sum() + (gM * (self.S @ gM)).sum()


class _Apply(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, Q: Tensor, M: Tensor, S: Tensor, gamma: float) -> Tensor:
        h = x @ M.T
        ctx.save_for_backward(x, h, Q, M, S)
        ctx.gamma = gamma
        return gamma * (h @ S) @ Q.T

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (v,) = grads
        x, h, Q, M, S = ctx.saved_tensors
        back = ctx.gamma * (v @ Q)  # gamma Q'v, for every sample
        return back @ S @ M, ctx.gamma * (v.T @ h), back.T @ x, None, None


def draw_gram(d_in: int, rank: int, *, variance: float, seed: int, draw: int, layer: str) -> Tensor:
    """A_0'A_0 of r rows with independent normal entries of that variance, from a stream of its own.

    Shapes: (d_in, d_in), float64. At ranks below d_in the rows themselves are drawn.
    """
    chi, normal = (stream(seed, "rank free", layer, rank, draw, kind) for kind in ("chi", "normal"))
    return variance * torch.from_numpy(gram(wishart_factor(1, d_in, rank, chi=chi, normal=normal))[0])


def kaiming_variance(d_in: int) -> float:
    """Variance of an entry of A under the default init of LoRA, U(-1/sqrt(d_in), 1/sqrt(d_in))."""
    return 1 / (3 * d_in)


def build_rank_free(
    model: nn.Module, targets: Sequence[str], *, rank: int, gamma: float, seed: int = 0, draw: int = 0
) -> dict[str, RankFree]:
    """One rank-free LoRA at init for every target: normal A of the variance that LoRA's default init has there."""
    found: dict[str, RankFree] = {}
    for name in targets:
        weight = linear_at(model, name).weight
        d_out, d_in = weight.shape
        S = draw_gram(d_in, rank, variance=kaiming_variance(d_in), seed=seed, draw=draw, layer=name)
        found[name] = RankFree(S.to(weight.device, weight.dtype), d_out=d_out, gamma=gamma)
    return found


@dataclass(frozen=True)
class Trajectory:
    """A run: losses before each step and after the last, gradient norms before each step, the weight added to each linear."""

    losses: tuple[float, ...]
    gradient_norms: tuple[float, ...]
    deltas: Mapping[str, Tensor]


def train_rank_free(
    model: nn.Module,
    modules: Mapping[str, RankFree],
    losses: Sequence[Callable[[], Tensor]],
    *,
    optimizer: Optimizer,
    lr: float,
) -> Trajectory:
    """Train rank-free adapters by SGD, one step for each loss; the model is as before afterwards.

    Raises: InputError for an optimizer that does not keep the form, or a clipped one.
    """
    if optimizer.name not in KEEPS_THE_FORM or optimizer.option("clip"):
        raise InputError(
            f"optimizer={optimizer.text!r} does not keep B = Q A_0', A = A_0 M: only {' and '.join(KEEPS_THE_FORM)} without clipping do; "
            "train the factors themselves for any other"
        )
    with _on(model, modules):
        return _descend(
            losses,
            parameters={name: (module.Q, module.M) for name, module in modules.items()},
            rates=dict.fromkeys(modules, (lr * optimizer.option("lr_ratio"), lr)),
            optimizer=optimizer,
            norm2=lambda: torch.stack([module.gradient_norm2() for module in modules.values()]).sum(),
            deltas=lambda: {name: module.delta().clone() for name, module in modules.items()},
        )


def train_full(model: nn.Module, rates: Mapping[str, float], losses: Sequence[Callable[[], Tensor]], *, optimizer: Optimizer) -> Trajectory:
    """Full fine-tuning of some linears by SGD, each at its own learning rate; the model is as before afterwards.

    Args: rates by the linear's name. Weight decay of an adapter shrinks what it added, not the weight, and is refused here.
    """
    if optimizer.name not in KEEPS_THE_FORM or optimizer.option("clip") or optimizer.option("weight_decay"):
        raise InputError(f"optimizer={optimizer.text!r}: the limit is that of plain SGD or momentum, without decay or clipping")
    weights = {name: linear_at(model, name).weight for name in rates}
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    wanted = {parameter: parameter.requires_grad for parameter in model.parameters()}
    try:
        model.requires_grad_(False)
        for weight in weights.values():
            weight.requires_grad_(True)
        return _descend(
            losses,
            parameters={name: (weight,) for name, weight in weights.items()},
            rates={name: (rate,) for name, rate in rates.items()},
            optimizer=optimizer,
            norm2=lambda: torch.stack([weight.grad.square().sum() for weight in weights.values() if weight.grad is not None]).sum(),
            deltas=lambda: {name: weight.detach() - before[name] for name, weight in weights.items()},
        )
    finally:
        with torch.no_grad():
            for name, weight in weights.items():
                weight.copy_(before[name])
                weight.grad = None
        for parameter, required in wanted.items():
            parameter.requires_grad_(required)


def _descend(
    losses: Sequence[Callable[[], Tensor]],
    *,
    parameters: Mapping[str, tuple[Tensor, ...]],
    rates: Mapping[str, tuple[float, ...]],
    optimizer: Optimizer,
    norm2: Callable[[], Tensor],
    deltas: Callable[[], dict[str, Tensor]],
) -> Trajectory:
    """SGD with momentum and coupled weight decay, as torch.optim.SGD's, each tensor at its own rate."""
    momentum = optimizer.option("momentum") if optimizer.name == "momentum" else 0.0
    decay = optimizer.option("weight_decay")
    moved = [(tensor, rate) for name in parameters for tensor, rate in zip(parameters[name], rates[name], strict=True)]
    moments = [torch.zeros_like(tensor) for tensor, _ in moved]
    seen: list[Tensor] = []
    norms: list[Tensor] = []
    for loss in losses:
        for tensor, _ in moved:
            tensor.grad = None
        value = loss()
        value.backward()
        seen.append(value.detach())
        norms.append(norm2().detach())
        with torch.no_grad():
            for (tensor, rate), moment in zip(moved, moments, strict=True):
                assert tensor.grad is not None
                moment.mul_(momentum).add_(tensor.grad).add_(tensor, alpha=decay)
                tensor.sub_(moment, alpha=rate)
    with torch.no_grad():
        seen.append(losses[-1]().detach())
        # One copy from the device at the end of the run.
        return Trajectory(tuple(torch.stack(seen).tolist()), tuple(torch.stack(norms).sqrt().tolist()), deltas())


@contextmanager
def _on(model: nn.Module, modules: Mapping[str, RankFree]) -> Iterator[None]:
    """The model with rank-free adapters on its linears and its own parameters frozen; on exit it is what it was."""

    def add(module: RankFree) -> Callable[..., Tensor]:
        return lambda linear, inputs, output: output + module(inputs[0])

    with ExitStack() as undo:
        for parameter in model.parameters():
            undo.callback(parameter.requires_grad_, parameter.requires_grad)
            parameter.requires_grad_(False)
        for name, module in modules.items():
            undo.callback(linear_at(model, name).register_forward_hook(add(module)).remove)
        yield
