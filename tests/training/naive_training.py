"""The reference that stacked training is held against: one configuration, plain autograd, torch.optim; it shares only the draws."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from rsverify.training.adapters.contraction import draw_factors
from rsverify.training.model.task import Task
from rsverify.training.stack.configuration import Configuration

OPTIMIZERS = {
    "sgd": lambda o, p, lr: torch.optim.SGD(p, lr=lr, weight_decay=o.option("weight_decay")),
    "momentum": lambda o, p, lr: torch.optim.SGD(p, lr=lr, momentum=o.option("momentum")),
    "adam": lambda o, p, lr: torch.optim.Adam(p, lr=lr, eps=o.option("eps")),
    "adamw": lambda o, p, lr: torch.optim.AdamW(p, lr=lr, eps=o.option("eps"), weight_decay=o.option("weight_decay")),
    "rmsprop": lambda o, p, lr: torch.optim.RMSprop(p, lr=lr, alpha=o.option("alpha"), eps=o.option("eps")),
    "adagrad": lambda o, p, lr: torch.optim.Adagrad(p, lr=lr),
    "adafactor": lambda o, p, lr: torch.optim.Adafactor(p, lr=lr, weight_decay=o.option("weight_decay")),
    "signsgd": lambda o, p, lr: SignSGD(p, lr=lr),
    "lion": lambda o, p, lr: Lion(p, lr=lr, beta1=o.option("beta1"), beta2=o.option("beta2"), weight_decay=o.option("weight_decay")),
    "muon-torch": lambda o, p, lr: torch.optim.Muon(p, lr=lr, momentum=o.option("momentum"), weight_decay=o.option("weight_decay")),
    "muon": lambda o, p, lr: Muon(p, lr=lr, momentum=o.option("momentum")),
}


class _Plain(torch.optim.Optimizer):
    def __init__(self, parameters, **options):
        super().__init__(parameters, options)

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self.update(p, p.grad, self.state[p], group)


class SignSGD(_Plain):
    def update(self, p, g, state, o):
        p -= o["lr"] * g.sign()


class Lion(_Plain):
    def update(self, p, g, state, o):
        m = state.get("m", torch.zeros_like(p))
        p -= o["lr"] * ((o["beta1"] * m + (1 - o["beta1"]) * g).sign() + o["weight_decay"] * p)
        state["m"] = o["beta2"] * m + (1 - o["beta2"]) * g


class Muon(_Plain):
    def update(self, p, g, state, o):
        state["m"] = o["momentum"] * state.get("m", torch.zeros_like(p)) + g
        U, s, Vh = np.linalg.svd((g + o["momentum"] * state["m"]).numpy(), full_matrices=False)
        keep = s > s[0] * max(p.shape) * np.finfo(np.float64).eps
        p -= o["lr"] * torch.from_numpy(U[:, keep] @ Vh[keep])


@dataclass
class Path:
    loss: np.ndarray
    gradient_norm: np.ndarray
    output_rms: np.ndarray
    factors: dict[str, dict[str, np.ndarray]]


def train_alone(task: Task, c: Configuration, steps: int, *, noise: float = 0.0, noise_seed: int = 0) -> Path:
    """Train one configuration; `noise` moves every entry of the factors at init by that relative amount, sign at random."""
    signs = np.random.default_rng(noise_seed)
    factors, handles, seen = {}, [], []
    for name in c.targets or task.targets:
        linear = task.model.get_submodule(name)
        drawn = draw_factors(
            c.adapter, rank=c.rank, d_in=linear.in_features, d_out=linear.out_features, seed=c.seed, draw=c.draw, layer=name
        )
        mine = {
            key: nn.Parameter(torch.from_numpy(value * (1 + noise * signs.choice([-1, 1], value.shape))), c.adapter.laws[key].trainable)
            for key, value in drawn.items()
        }
        factors[name] = mine

        def hook(module, inputs, output, mine=mine):
            added = c.gamma * (inputs[0] @ mine["A"].T @ mine["B"].T)
            seen.append(added.detach())
            return output + added

        handles.append(linear.register_forward_hook(hook))
    trained = [p for mine in factors.values() for p in mine.values() if p.requires_grad]
    ratio = c.optimizer.option("lr_ratio")
    if ratio == 1:
        optimizer = OPTIMIZERS[c.optimizer.name](c.optimizer, trained, c.lr)
    else:
        optimizer = OPTIMIZERS[c.optimizer.name](c.optimizer, [
            {"params": [mine["A"] for mine in factors.values()], "lr": c.lr},
            {"params": [mine["B"] for mine in factors.values()], "lr": c.lr * ratio},
        ], c.lr)  # fmt: skip
    loss, norm, output = [], [], []
    try:
        for step in range(steps):
            seen.clear()
            value = task.losses(task.model, task.batch(step, c.data), 1)[0]
            for p, g in zip(trained, torch.autograd.grad(value, trained), strict=True):
                p.grad = g
            loss.append(value.item())
            norm.append(math.sqrt(sum(float(p.grad.square().sum()) for p in trained)))
            output.append(math.sqrt(sum(float(a.square().sum()) for a in seen) / sum(a.numel() for a in seen)))
            if c.optimizer.option("clip"):
                torch.nn.utils.clip_grad_norm_(trained, c.optimizer.option("clip"))
            optimizer.step()
    finally:
        for handle in handles:
            handle.remove()
    found = {name: {key: p.detach().numpy() for key, p in mine.items()} for name, mine in factors.items()}
    return Path(np.array(loss), np.array(norm), np.array(output), found)


def rounding_bound(task: Task, c: Configuration, steps: int, path: Path) -> Path:
    """How far another order of summation may move each number, to first order.

    The unit is gamma_n for the terms that one pass sums up on the way from the factors to the loss, passes so far times it; the
    condition of each number is how much it moves when the factors at init move by a relative 1e-8, the larger of three directions.
    """
    shapes = [task.model.get_submodule(name).weight.shape for name in task.targets]
    tokens = sum(value.numel() for value in task.batch(0, c.data).values())
    terms = sum(sum(shape) + c.rank for shape in shapes) + tokens
    size = 1e-8
    moved = [train_alone(task, c, steps, noise=size, noise_seed=k) for k in range(3)]
    unit = terms * np.arange(1, steps + 1) * np.finfo(np.float64).eps

    def bound(name):
        base = getattr(path, name)
        condition = np.max([np.abs(getattr(other, name) - base) for other in moved], axis=0) / size
        return unit * np.maximum(condition, np.abs(base))

    def factor_bound(layer, key):
        base = path.factors[layer][key]
        condition = np.max([np.linalg.norm(other.factors[layer][key] - base) for other in moved]) / size
        return unit[-1] * max(condition, float(np.linalg.norm(base)))

    return Path(
        bound("loss"), bound("gradient_norm"), bound("output_rms"),
        {layer: {key: factor_bound(layer, key) for key in mine} for layer, mine in path.factors.items()},
    )  # fmt: skip
