"""A simulation by autograd that shares no code with the witnesses: what the adversary holds them against.

It reads an adapter's expression, sizes and laws as they are declared, draws the factors with torch, lets autograd find every
gradient, and writes every optimizer's update from its formula. Draws are one batch axis: a loss that sums over draws has each
draw's own gradient. Slow where it may be, small where it can be.
"""

from __future__ import annotations

import math
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

COUPLED = ("sgd", "momentum", "signsgd", "adam", "rmsprop", "adagrad")
DECOUPLED = ("adamw", "lion", "adafactor", "muon", "muon-torch")


@dataclass(frozen=True)
class Question:
    """What is simulated: a declared adapter at one rank, an optimizer with its options, a quantity and its statistic.

    Args: sizes are those of all axes, with r, d_in, d_out; laws by factor as (kind, spread, frozen), spread a number at these sizes.
    """

    expression: str
    sizes: Mapping[str, int]
    laws: Mapping[str, tuple[str, float, bool]]
    gamma: float
    optimizer: str
    options: Mapping[str, float]
    quantity: str
    statistic: str
    steps: int
    lr: float


@dataclass(frozen=True)
class Data:
    """A sample, a probe and a signal. Shapes: (d_in,), (d_in,), (d_out,), or with a leading axis of one for each draw."""

    x: Tensor
    probe: Tensor
    v: Tensor


class Contraction:
    """The added weight's product from its expression, with the axes written as letters for einsum; z is the axis of draws."""

    def __init__(self, expression: str, names: Sequence[str]) -> None:
        left, right = expression.split("->")
        self.axes = {name: part.split() for name, part in zip(names, left.split(","), strict=True)}
        groups: list[list[str]] = []
        depth = 0
        for token in right.replace("(", " ( ").replace(")", " ) ").split():
            if token in "()":
                depth += 1 if token == "(" else -1
                if token == "(":
                    groups.append([])
            elif depth:
                groups[-1].append(token)
            else:
                groups.append([token])
        self.rows, self.columns = groups
        every = list(dict.fromkeys(axis for axes in self.axes.values() for axis in axes))
        self.letter = dict(zip(every, (c for c in string.ascii_letters if c != "z"), strict=False))

    def words(self, axes: Sequence[str]) -> str:
        return "z" + "".join(self.letter[axis] for axis in axes)

    def scalar(self, factors: Mapping[str, Tensor], row: Tensor, column: Tensor) -> Tensor:
        """row . delta column for every draw."""
        terms = ",".join([*(self.words(self.axes[name]) for name in factors), self.words(self.rows), self.words(self.columns)])
        return torch.einsum(f"{terms}->z", *factors.values(), row, column)

    def output(self, factors: Mapping[str, Tensor], column: Tensor) -> Tensor:
        """delta column for every draw, (draws, d_out)."""
        terms = ",".join([*(self.words(self.axes[name]) for name in factors), self.words(self.columns)])
        return torch.einsum(f"{terms}->{self.words(self.rows)}", *factors.values(), column).flatten(1)


def draw(kind: str, spread: float, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Entries of a law, float64; the leading axis counts draws."""
    if kind == "zero":
        return torch.zeros(shape, dtype=torch.float64)
    if kind == "constant":
        return torch.full(shape, spread, dtype=torch.float64)
    if kind == "uniform":
        return (torch.rand(shape, dtype=torch.float64, generator=generator) * 2 - 1) * spread
    normal = torch.randn(shape, dtype=torch.float64, generator=generator)
    if kind == "gaussian":
        return normal * spread
    if kind == "orthonormal":  # the polar factor of a Gaussian matrix is uniform on frames
        u, _, w = torch.linalg.svd(normal, full_matrices=False)
        return u @ w * spread
    raise ValueError(f"law {kind!r}")


def simulate(question: Question, data: Data, *, draws: int, seed: int) -> Tensor:
    """One number per draw: the square of the quantity over its entries, or the signed projection."""
    q = question
    contraction = Contraction(q.expression, list(q.laws))
    generator = torch.Generator().manual_seed(seed)
    factors = {
        name: draw(kind, spread, (draws, *(q.sizes[axis] for axis in contraction.axes[name])), generator)
        for name, (kind, spread, _) in q.laws.items()
    }
    trained = [name for name, (_, _, frozen) in q.laws.items() if not frozen]

    def shaped(vector: Tensor, axes: Sequence[str]) -> Tensor:
        whole = vector.expand(draws, vector.shape[-1])
        return whole.reshape(draws, *(q.sizes[axis] for axis in axes))

    x, probe = shaped(data.x, contraction.columns), shaped(data.probe, contraction.columns)
    v = shaped(data.v, contraction.rows)

    def gradients(at: Mapping[str, Tensor]) -> dict[str, Tensor]:
        leaves = {name: factor.detach().requires_grad_(name in trained) for name, factor in at.items()}
        loss = q.gamma * contraction.scalar(leaves, v, x).sum()
        return dict(zip(trained, torch.autograd.grad(loss, [leaves[name] for name in trained]), strict=True))

    first = gradients(factors)
    now, memory = dict(factors), {}
    for t in range(1, q.steps + 1):
        now |= step(q, contraction, now, gradients(now), memory, t)
    kind, _, factor = q.quantity.partition(":")
    if kind == "loss_decrease":
        decrease = -sum(((first[name] * (now[name] - factors[name])).flatten(1).sum(1) for name in trained), torch.zeros(draws).double())
        return decrease if q.statistic == "projection" else decrease**2
    if kind in ("gradient", "gradient_norm"):
        asked = gradients(now)
        squares = sum((asked[name].flatten(1).square().sum(1) for name in ([factor] if factor else trained)), torch.zeros(draws).double())
        return squares / (asked[factor][0].numel() if factor and q.statistic == "rms" else 1)
    if kind == "input_gradient":
        column = x.detach().requires_grad_(True)
        (y,) = torch.autograd.grad(q.gamma * contraction.scalar(now, v, column).sum(), column)
        y, along = y.flatten(1), x.flatten(1)
    else:
        y = q.gamma * contraction.output(now, probe)
        if kind == "update":
            y = y - q.gamma * contraction.output(factors, probe)
        along = -v.flatten(1)
    if q.statistic == "projection":
        return (y * along).sum(1) / along.norm(dim=1)
    return y.square().sum(1) / (y.shape[1] if q.statistic == "rms" else 1)


def step(
    q: Question, contraction: Contraction, weights: Mapping[str, Tensor], gradients: Mapping[str, Tensor], memory: dict[Any, Tensor], t: int
) -> dict[str, Tensor]:
    """The trained factors after step t, by the formula of the optimizer alone."""
    decay, clip = q.options.get("weight_decay", 0.0), q.options.get("clip", 0.0)
    norm = sum((g.flatten(1).square().sum(1) for g in gradients.values()), torch.zeros(())).sqrt()
    after = {}
    for name, g in gradients.items():
        w = weights[name]
        per_draw = (len(w), *[1] * (w.ndim - 1))
        if clip:
            g = g * torch.clamp(clip / norm, max=1.0).nan_to_num(1.0).reshape(per_draw)
        axes = set(contraction.axes[name])
        up = bool(axes & set(contraction.rows)) and not axes & set(contraction.columns)
        rate = q.lr * (q.options.get("lr_ratio", 1.0) if up else 1.0)
        if decay and q.optimizer in COUPLED:
            g = g + decay * w
        shrunk = w * (1 - rate * decay) if decay and q.optimizer in DECOUPLED else w
        after[name] = shrunk - direction(q, name, g, w, norm.reshape(per_draw), memory, t, rate)
    return after


def direction(q: Question, name: str, g: Tensor, w: Tensor, norm: Tensor, memory: dict[Any, Tensor], t: int, rate: float) -> Tensor:
    """The step of one factor, its learning rate in it."""
    o, optimizer, zero = q.options, q.optimizer, torch.zeros_like(g)

    def running(key: str, new: Tensor, kept: float, share: float) -> Tensor:
        memory[name, key] = kept * memory.get((name, key), torch.zeros_like(new)) + share * new
        return memory[name, key]

    def over(top: Tensor, bottom: Tensor) -> Tensor:
        return torch.where(bottom == 0, zero, top / torch.where(bottom == 0, torch.ones_like(bottom), bottom))

    if optimizer == "sgd":
        return rate * g
    if optimizer == "momentum":
        return rate * running("m", g, o["momentum"], 1.0)
    if optimizer == "normalized-sgd":
        return rate * over(g, norm.expand_as(g))
    if optimizer == "signsgd":
        return rate * torch.sign(g)
    if optimizer == "lion":
        mixed = o["beta1"] * memory.get((name, "m"), zero) + (1 - o["beta1"]) * g
        running("m", g, o["beta2"], 1 - o["beta2"])
        return rate * torch.sign(mixed)
    if optimizer in ("adam", "adamw"):
        m = running("m", g, o["beta1"], 1 - o["beta1"]) / (1 - o["beta1"] ** t)
        square = running("s", g * g, o["beta2"], 1 - o["beta2"]) / (1 - o["beta2"] ** t)
        return rate * over(m, square.sqrt() + o["eps"])
    if optimizer == "rmsprop":
        return rate * over(g, running("s", g * g, o["alpha"], 1 - o["alpha"]).sqrt() + o["eps"])
    if optimizer == "adagrad":
        return rate * over(g, running("s", g * g, 1.0, 1.0).sqrt() + o["eps"])
    if optimizer == "adafactor":
        share = t ** o["beta2_decay"]
        square = g * g
        if g.ndim == 3:
            rows = running("R", square.mean(2, keepdim=True), 1 - share, share)
            columns = running("C", square.mean(1, keepdim=True), 1 - share, share)
            mean = over(rows * columns, rows.mean(1, keepdim=True).expand_as(g))
        else:
            mean = running("s", square, 1 - share, share)
        u = g / torch.clamp(mean.sqrt(), min=torch.finfo(torch.float64).eps)
        size = torch.clamp(_rms(w), min=o["eps2"])
        return size * min(rate, t**-0.5) * u / torch.clamp(_rms(u) / o["d"], min=1.0)
    if optimizer in ("muon", "muon-torch"):
        if g.ndim != 3:
            raise ValueError(f"{optimizer} orthogonalises matrices")
        m = running("m", g, o["momentum"], 1.0)
        u, values, w_ = torch.linalg.svd(g + o["momentum"] * m, full_matrices=False)
        # Below the rounding of the largest, a singular value is zero.
        floor = values[:, :1] * math.sqrt(torch.finfo(torch.float64).eps)
        polar = (u * (values > floor)[:, None, :]) @ w_
        return rate * polar * (math.sqrt(max(1.0, g.shape[1] / g.shape[2])) if optimizer == "muon-torch" else 1.0)
    raise ValueError(f"optimizer {optimizer!r}")


def _rms(tensor: Tensor) -> Tensor:
    return tensor.flatten(1).square().mean(1).sqrt().reshape(len(tensor), *[1] * (tensor.ndim - 1))


def flat_data(d_in: int, d_out: int, cosine: float, *, draws: int, seed: int) -> Data:
    """Data of entries all alike with fresh signs for every draw; the probe agrees in sign at a share (1 + cosine) / 2 of the entries."""
    generator = torch.Generator().manual_seed(seed)

    def signs(*shape: int) -> Tensor:
        return torch.randint(0, 2, shape, generator=generator).double() * 2 - 1

    x, v = signs(draws, d_in), signs(draws, d_out) / math.sqrt(d_out)
    agreeing = round((1 + cosine) / 2 * d_in)
    order = torch.rand(draws, d_in, generator=generator).argsort(1)
    return Data(x, torch.where(order < agreeing, x, -x), v)


def problem(d_in: int, d_out: int, cosine: float, *, seed: int) -> Data:
    """One sample of |x|**2 = d_in, a probe of that length at the cosine, a signal of length one."""
    generator = torch.Generator().manual_seed(seed)
    x, other, v = (torch.randn(n, generator=generator, dtype=torch.float64) for n in (d_in, d_in, d_out))
    x *= math.sqrt(d_in) / x.norm()
    other -= x * (x @ other) / (x @ x)
    other *= math.sqrt(d_in) / other.norm() if d_in > 1 else 0.0
    return Data(x, cosine * x + math.sqrt(max(0.0, 1 - cosine**2)) * other, v / v.norm())


def asked(setting: Any, *, rank: int, d_in: int, d_out: int, alpha: float, lr: float, theory: bool) -> Question:
    """The question of a `definitions` setting at a rank; `theory` takes epsilon 0 where none is given, else the library's default."""
    adapter, optimizer, claim = setting.adapter, setting.optimizer, setting.claim
    sizes = {**adapter.axis_sizes(rank, d_in, d_out), "d_in": d_in, "d_out": d_out}
    laws = {}
    for name, law in adapter.laws.items():
        bare = getattr(law, "law", law)
        kind = {"KaimingUniform": "uniform"}.get(type(bare).__name__, type(bare).__name__.lower())
        laws[name] = (kind, float(law.spread.evaluate({key: float(size) for key, size in sizes.items()})), not law.trainable)
    options = {key: optimizer.theory_option(key) if theory else optimizer.option(key) for key in optimizer.defaults}
    return Question(
        adapter.expression, sizes, laws, setting.rule.gamma(rank, alpha), optimizer.name, options, claim.quantity, claim.statistic,
        claim.steps, lr,
    )  # fmt: skip
