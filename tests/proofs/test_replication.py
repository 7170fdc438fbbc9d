"""The lemma `replication` on the path: a copied adapter and its narrow one carry the same weight after every step, on a tanh loss.

The update rules are written here, entry by entry and apart from the package's; gradients come from autograd.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch

from rsverify.statistics.rounding import gamma_n
from rsverify.statistics.streams import stream

C, R, D_IN, D_OUT, STEPS, BATCH = 3, 2, 5, 4, 6, 7
GAMMA, LR = 0.7, 0.05
Factors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Shape:
    """An adapter as an einsum, with the rank axes r and s; `trained` names the factors that move."""

    expression: str
    trained: tuple[int, ...]
    zero: int | None = None

    @property
    def inputs(self) -> list[str]:
        return self.expression.split("->")[0].split(",")

    @property
    def axes(self) -> int:
        """Number of rank axes, each copied c times."""
        return len(set("".join(self.inputs)) & set("rs"))

    def drawn(self) -> list[torch.Tensor]:
        rng = stream(0, "replication", self.expression)
        size = {"o": D_OUT, "i": D_IN, "r": R, "s": R}
        factors = [torch.tensor(rng.standard_normal([size[axis] for axis in axes])) for axes in self.inputs]
        return [torch.zeros_like(factor) if k == self.zero else factor for k, factor in enumerate(factors)]

    def copied(self, factors: list[torch.Tensor]) -> list[torch.Tensor]:
        wide = []
        for axes, factor in zip(self.inputs, factors, strict=True):
            for k, axis in enumerate(axes):
                if axis in "rs":
                    factor = factor.repeat_interleave(C, dim=k)
            wide.append(factor.clone())
        return wide


LORA = Shape("or,ri->oi", (0, 1), zero=0)
SHAPES = {
    "lora": LORA,
    "lora from any start": replace(LORA, zero=None),
    "one factor frozen": replace(LORA, trained=(0,)),
    "three factors": Shape("or,r,ri->oi", (0, 1, 2)),
    "two rank axes": Shape("or,ri,os,si->oi", (0, 1, 2, 3)),
    "a core of two rank axes": Shape("or,rs,si->oi", (1,)),
}
VERA = Shape("o,or,r,ri->oi", (0, 2))


@dataclass(frozen=True)
class Rule:
    """An update rule with its options; `of_lr` is the power of c by which its rate follows the copies."""

    step: Callable[..., torch.Tensor]
    of_lr: float
    decay: float = 0.0  # decoupled
    coupled: float = 0.0  # added to the gradient
    clip: float = 0.0

    def copied(self, scale: float) -> Rule:
        """The rule of the copied adapter, gradients of whose factors are over `scale`."""
        return replace(self, decay=self.decay / scale**self.of_lr, coupled=self.coupled / scale)


def momentum(g: torch.Tensor, state: Factors, t: int) -> torch.Tensor:
    state["m"] = 0.9 * state.get("m", torch.zeros_like(g)) + g
    return state["m"]


def over_root(top: torch.Tensor, square: torch.Tensor) -> torch.Tensor:
    return torch.where(square > 0, top / square.clamp_min(torch.finfo(square.dtype).tiny).sqrt(), torch.zeros_like(top))


def adam(g: torch.Tensor, state: Factors, t: int) -> torch.Tensor:
    state["m"] = 0.9 * state.get("m", torch.zeros_like(g)) + 0.1 * g
    state["s"] = 0.99 * state.get("s", torch.zeros_like(g)) + 0.01 * g * g
    return over_root(state["m"] / (1 - 0.9**t), state["s"] / (1 - 0.99**t))


def rmsprop(g: torch.Tensor, state: Factors, t: int) -> torch.Tensor:
    state["s"] = 0.9 * state.get("s", torch.zeros_like(g)) + 0.1 * g * g
    return over_root(g, state["s"])


def adagrad(g: torch.Tensor, state: Factors, t: int) -> torch.Tensor:
    state["s"] = state.get("s", torch.zeros_like(g)) + g * g
    return over_root(g, state["s"])


def lion(g: torch.Tensor, state: Factors, t: int) -> torch.Tensor:
    m = state.get("m", torch.zeros_like(g))
    state["m"] = 0.99 * m + 0.01 * g
    return torch.sign(0.9 * m + 0.1 * g)


def adafactor(g: torch.Tensor, state: Factors, t: int) -> torch.Tensor:
    """Factored second moments of a matrix, plain ones of a vector; the update is clipped by its rms and follows the factor's."""
    kept = 1 - t**-0.8
    if g.dim() == 2:
        rows, columns = (g * g).mean(1, keepdim=True), (g * g).mean(0, keepdim=True)
        state["rows"] = kept * state.get("rows", torch.zeros_like(rows)) + (1 - kept) * rows
        state["columns"] = kept * state.get("columns", torch.zeros_like(columns)) + (1 - kept) * columns
        mean = state["rows"].mean().clamp_min(torch.finfo(g.dtype).tiny)
        u = over_root(g, state["rows"] * state["columns"] / mean)
    else:
        state["s"] = kept * state.get("s", torch.zeros_like(g)) + (1 - kept) * g * g
        u = over_root(g, state["s"])
    return max(1e-3, rms(state["w"])) * u / max(1.0, rms(u))


def rms(x: torch.Tensor) -> float:
    return float((x * x).mean().sqrt())


def polar(g: torch.Tensor, state: Factors, t: int) -> torch.Tensor:
    m = momentum(g, state, t)
    u, singular, v = torch.linalg.svd(g + 0.9 * m, full_matrices=False)
    return u @ torch.diag((singular > 1e-9 * singular.max()).to(g.dtype)) @ v if singular.max() > 0 else torch.zeros_like(g)


def muon_torch(g: torch.Tensor, state: Factors, t: int) -> torch.Tensor:
    return polar(g, state, t) * max(1.0, g.shape[0] / g.shape[1]) ** 0.5


def sgd(g: torch.Tensor, state: Factors, t: int) -> torch.Tensor:
    return g


RULES = {
    "sgd": Rule(sgd, 1),
    "sgd with decay": Rule(sgd, 1, coupled=0.3),
    "sgd with a bound": Rule(sgd, 1, clip=0.4),
    "momentum": Rule(momentum, 1, coupled=0.3),
    "normalized-sgd": Rule(sgd, 0.5, clip=-1),
    "signsgd": Rule(lambda g, state, t: torch.sign(g), 0),
    "lion": Rule(lion, 0, decay=0.3),
    "adam": Rule(adam, 0, coupled=0.3),
    "adamw": Rule(adam, 0, decay=0.3),
    "adamw with a bound": Rule(adam, 0, decay=0.3, clip=0.4),
    "rmsprop": Rule(rmsprop, 0),
    "adagrad": Rule(adagrad, 0),
    "adafactor": Rule(adafactor, 0),
    "muon": Rule(polar, 0.5, decay=0.3),
}


def path(shape: Shape, rule: Rule, start: list[torch.Tensor], *, gamma: float, lr: float, bound: float) -> list[torch.Tensor]:
    """The added weight before the first step and after each, trained on fresh batches of a loss with a tanh in it."""
    rng = stream(0, "replication", "data")
    base, head = torch.tensor(rng.standard_normal((D_OUT, D_IN))) / D_IN**0.5, torch.tensor(rng.standard_normal(D_OUT))
    factors = [factor.clone() for factor in start]
    states: list[Factors] = [{} for _ in factors]
    weights = []
    for t in range(1, STEPS + 1):
        x, y = torch.tensor(rng.standard_normal((BATCH, D_IN))), torch.tensor(rng.standard_normal(BATCH))
        leaves = [factor.requires_grad_(k in shape.trained) for k, factor in enumerate(factors)]
        delta = gamma * torch.einsum(shape.expression, *leaves)
        weights.append(delta.detach())
        ((torch.tanh(x @ (base + delta).T) @ head - y) ** 2).mean().backward()
        gradients = {k: leaves[k].grad for k in shape.trained}
        norm = sum(float((g * g).sum()) for g in gradients.values() if g is not None) ** 0.5
        shrink = 1 / norm if rule.clip < 0 else min(1.0, bound / norm) if rule.clip else 1.0
        with torch.no_grad():
            for k, g in gradients.items():
                assert g is not None
                w = leaves[k].detach()
                states[k]["w"] = w
                factors[k] = (1 - lr * rule.decay) * w - lr * rule.step(shrink * g + rule.coupled * w, states[k], t)
        factors = [factor.detach() for factor in factors]
    return [*weights, gamma * torch.einsum(shape.expression, *factors)]


def apart(shape: Shape, rule: Rule, *, carried: int, of_lr: float | None = None) -> float:
    """The largest relative distance on the path of the copied adapter from the narrow one; `carried`: rank axes of each trained factor."""
    scale = float(C**carried)
    copied_lr = LR * scale ** (rule.of_lr if of_lr is None else of_lr)
    start = shape.drawn()
    narrow = path(shape, rule, start, gamma=GAMMA, lr=LR, bound=rule.clip)
    wide = path(
        shape, rule.copied(scale), shape.copied(start), gamma=GAMMA / C**shape.axes, lr=copied_lr, bound=rule.clip / scale**0.5
    )  # fmt: skip
    size = float(narrow[-1].abs().max())
    assert float((narrow[-1] - narrow[0]).abs().max()) > 0.001 * size, "nothing moved"
    return max(float((a - b).abs().max()) for a, b in zip(narrow, wide, strict=True)) / size


ROUNDING = gamma_n(STEPS * C * R * C * R * D_IN * D_OUT * BATCH)
"""So many products enter the last weight one after another; their roundings are that share of it."""


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_copied_path_is_the_narrow_one(shape: str, rule: str) -> None:
    adapter = SHAPES[shape]
    if rule == "muon" and any(len(adapter.inputs[k]) != 2 for k in adapter.trained):
        pytest.skip("a vector has no polar factor")
    carried = {len(set(adapter.inputs[k]) & set("rs")) for k in adapter.trained}
    assert len(carried) == 1
    assert apart(adapter, RULES[rule], carried=carried.pop()) < ROUNDING


@pytest.mark.parametrize("rule", ["signsgd", "lion", "adamw", "rmsprop", "adagrad", "adafactor"])
def test_steps_that_see_no_scale_keep_the_path_of_a_factor_without_the_rank_axis(rule: str) -> None:
    assert apart(VERA, RULES[rule], carried=1) < ROUNDING


FAILS = {
    "sgd of a factor without the rank axis": (VERA, RULES["sgd"], None),
    "momentum of a factor without the rank axis": (VERA, RULES["momentum"], None),
    "sgd at the narrow rate": (LORA, RULES["sgd"], 0.0),
    "adam at c times the rate": (LORA, RULES["adamw"], 1.0),
    "muon at the narrow rate": (LORA, RULES["muon"], 0.0),
    "torch's muon": (LORA, Rule(muon_torch, 0.5), None),
    "an epsilon that stays": (LORA, Rule(lambda g, state, t: g / (g.abs() + 0.05), 0), None),
}


@pytest.mark.parametrize("name", FAILS)
def test_where_the_lemma_says_that_it_fails_it_does(name: str) -> None:
    shape, rule, of_lr = FAILS[name]
    assert apart(shape, rule, carried=1, of_lr=of_lr) > 0.01
