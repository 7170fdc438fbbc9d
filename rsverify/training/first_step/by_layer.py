"""The steps of any adapter, linear by linear: what it starts from, the gradient that the block sends it, the step really taken.

At a small learning rate a linear's inputs X and signals V do not move: those of one pass of the bare model serve every rank, rule,
optimizer, draw and step, as theory takes v for given. A declared adapter is followed by its weight, from which all quantities follow
through G = V'X; a module by its outputs on X. An adapter that adds something at init has a pass of its own for each draw.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from rsverify.definitions.claims import Setting
from rsverify.definitions.rules import ScalingRule
from rsverify.errors import InputError
from rsverify.records import Claim
from rsverify.training.adapters.called import Called
from rsverify.training.adapters.forms import Form, Start, Tensors, stacked
from rsverify.training.adapters.trainable import form_of
from rsverify.training.first_step.probes import Capture, LayerProbe, capture
from rsverify.training.model.linears import linear_at
from rsverify.training.model.problem import Problem
from rsverify.training.optimizers import STEPS, State

LEARNING_RATE = 1e-3
"""Of the steps that are really taken, as simulation takes them."""
NEARLY = 1e-3
"""What an adapter may add at init, over the weight, for the bare model's inputs and signals to be its own within so much."""
CHUNK = 4_000_000
"""Numbers of the largest stacked tensor of one chunk of draws: 32 MB in float64."""
DRAWS = 16
"""At most, where no closed form serves; of rms rows, which are context, so many as `CONTEXT_DRAWS`."""
CONTEXT_DRAWS = 8


ROUNDINGS = 64
"""Of a signal that a linear and its adapter make, in units of its size: what lies below is no answer but the rounding of zero."""


@dataclass
class Followed:
    """What the layers contribute to a claim, signed for projections and loss decreases, squared for norms.

    Shapes: values (layers, ranks, draws). `entries` is the number of entries that an rms is over, by rank. `median` is the least median
    size of a gradient's entries, by rank, for what epsilon does.
    """

    values: np.ndarray
    entries: np.ndarray
    median: np.ndarray


class Response(Protocol):
    """What an adapter does at a linear, as a tensor that is read: its weight, or its outputs on the batch."""

    def at(self, factors: Tensors) -> Tensor: ...
    def along(self, change: Tensor) -> Tensor: ...
    def square(self, change: Tensor) -> Tensor: ...
    def back_square(self, factors: Tensors, added: Tensor) -> Tensor: ...


class ByWeight:
    """Of a declared adapter: the weight D (c, d_out, d_in) that it adds. <G, D> is the loss to first order, |X D'|, |V D| its norms."""

    def __init__(self, form: Any, probe: LayerProbe, fixed: Tensors, gamma: Tensor) -> None:
        self.form, self.probe, self.fixed, self.gamma = form, probe, fixed, gamma

    def at(self, factors: Tensors) -> Tensor:
        return self.form.added(factors, self.fixed, self.gamma)

    def along(self, change: Tensor) -> Tensor:
        return (self.probe.G * change).sum((1, 2))

    def square(self, change: Tensor) -> Tensor:
        return _cheaper(change, self.probe.X.T, lambda: self.probe.XX)

    def back_square(self, factors: Tensors, added: Tensor) -> Tensor:
        return _cheaper(added.mT, self.probe.V.T, lambda: self.probe.VV)


def _cheaper(change: Tensor, data: Tensor, gram: Callable[[], Tensor]) -> Tensor:
    """|change data|^2, by the product with the data or by their Gram matrix. Shapes: change (c, a, b), data (b, n), gram (b, b)."""
    b, n = data.shape
    return (change @ data).square().sum((1, 2)) if n < b else ((change @ gram()) * change).sum((1, 2))


class ByOutput:
    """Of a module: what it adds to the outputs on the batch (c, n, d_out)."""

    def __init__(self, form: Called, probe: LayerProbe, fixed: Tensors, gamma: Tensor) -> None:
        self.form, self.probe, self.fixed, self.gamma = form, probe, fixed, gamma

    def at(self, factors: Tensors) -> Tensor:
        bare = nn.functional.linear(self.probe.X, self.form.linear.weight, self.form.linear.bias).detach()
        return self.form.output(factors, self.fixed, self.gamma, self._data()) - bare

    def along(self, change: Tensor) -> Tensor:
        return (self.probe.V * change).sum((1, 2))

    def square(self, change: Tensor) -> Tensor:
        return change.square().sum((1, 2))

    def back_square(self, factors: Tensors, added: Tensor) -> Tensor:
        x = self._data().clone().requires_grad_(True)
        with torch.enable_grad():
            y = self.form.output({name: value.detach() for name, value in factors.items()}, self.fixed, self.gamma, x)
            (back,) = torch.autograd.grad((self.probe.V * y).sum(), x)
        return (back - self.probe.V @ self.form.linear.weight.detach()).square().sum((1, 2))

    def _data(self) -> Tensor:
        return self.probe.X.expand(len(self.gamma), *self.probe.X.shape)


@dataclass
class _Question:
    """The claims that are asked of one rule and optimizer."""

    optimizer: Any
    claims: list[Claim] = field(default_factory=list)


def follow(
    settings: Sequence[Setting],
    adapter: Any,
    *,
    problem: Problem,
    seen: Capture,
    ranks: Sequence[int],
    draws: int,
    alpha: float,
    seed: int,
    lr: float,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[dict[Claim, Followed], tuple[str, ...]]:
    """What every claim about one adapter comes to, and notes on how it was run.

    Raises: InputError for a factor that the adapter has not.
    """
    answers: dict[Claim, Followed] = {}
    asked: dict[ScalingRule, dict[str, _Question]] = {}
    for s in settings:
        count = min(draws, CONTEXT_DRAWS if is_context(s.claim) else DRAWS)
        values = np.zeros((len(seen.layers), len(ranks), count))
        answers[s.claim] = Followed(values, np.zeros(len(ranks)), np.full(len(ranks), np.inf))
        asked.setdefault(s.rule, {}).setdefault(s.optimizer.text, _Question(s.optimizer)).claims.append(s.claim)
    notes: dict[str, None] = {}
    done, total = 0, len(ranks) * len(asked)
    for j, rank in enumerate(ranks):
        for rule, questions in asked.items():
            gamma = rule.gamma(rank, alpha)
            _follow_rank(list(questions.values()), answers, adapter, problem=problem, seen=seen, rank=rank, j=j, draws=min(draws, DRAWS),
                         alpha=alpha, seed=seed, lr=lr, gamma=gamma, notes=notes)  # fmt: skip
            done += 1
            if progress:
                progress(done, total)
    return answers, tuple(notes)


def is_context(claim: Claim) -> bool:
    """Whether a row is the rms of a forward or backward signal, whose exponent a real block only brackets."""
    return claim.quantity in ("update", "output", "input_gradient") and claim.statistic != "projection"


def _follow_rank(
    questions: Sequence[_Question], answers: Mapping[Claim, Followed], adapter: Any, *, problem: Problem, seen: Capture, rank: int, j: int,
    draws: int, alpha: float, seed: int, lr: float, gamma: float, notes: dict[str, None],
) -> None:  # fmt: skip
    forms = {
        probe.name: form_of(adapter, linear_at(problem.model, probe.name), layer=probe.name, rank=rank, alpha=alpha)
        for probe in seen.layers
    }

    def start(layer: str, draw: int) -> Start:
        return forms[layer].start(gamma=gamma, alpha=alpha, seed=seed, draw=draw)

    first = {layer: start(layer, 0) for layer in forms}
    probes = seen
    if not all(_adds_nothing(forms[probe.name], first[probe.name], probe, gamma) for probe in seen.layers):
        notes["the adapter adds something at init: inputs and signals are those of a pass with each draw attached"] = None
        for draw in range(draws):
            starts = first if draw == 0 else {layer: start(layer, draw) for layer in forms}
            with _attached(problem.model, forms, starts, gamma):
                probes = capture(problem)
            for i, probe in enumerate(probes.layers):
                _follow_layer(questions, answers, forms[probe.name], probe, [starts[probe.name]], place=(i, j, draw), gamma=gamma, lr=lr)
        return
    for i, probe in enumerate(seen.layers):
        form, own = forms[probe.name], [first[probe.name]]
        if draws > 1:
            own.append(start(probe.name, 1))
        if draws > 1 and _same(*own):  # nothing of it is drawn: one draw is all of them
            _follow_layer(questions, answers, form, probe, own[:1], place=(i, j, 0), gamma=gamma, lr=lr, repeat=draws)
        else:
            own += [start(probe.name, draw) for draw in range(2, draws)]
            size = max(1, CHUNK // (max(probe.tokens, *probe.G.shape) * max(probe.G.shape)))
            for lo in range(0, draws, size):
                _follow_layer(questions, answers, form, probe, own[lo : lo + size], place=(i, j, lo), gamma=gamma, lr=lr)
        if form.note:
            notes[form.note] = None


def _follow_layer(
    questions: Sequence[_Question], answers: Mapping[Claim, Followed], form: Form, probe: LayerProbe, starts: Sequence[Start], *,
    place: tuple[int, int, int], gamma: float, lr: float, repeat: int = 1,
) -> None:  # fmt: skip
    """The claims about one linear at one rank, for some draws."""
    i, j, lo = place
    begun = {name: torch.stack([one.factors[name] for one in starts]) for name in form.shapes}
    fixed = {name: stacked([one.fixed[name] for one in starts]) for name in starts[0].fixed}
    gammas = torch.full((len(starts),), gamma, dtype=probe.X.dtype, device=probe.X.device)
    response: Response
    response = ByOutput(form, probe, fixed, gammas) if isinstance(form, Called) else ByWeight(form, probe, fixed, gammas)
    before, gradients = _gradients(response, begun, form.trained)
    V = float(probe.V.norm())
    median = min((float(g[0].abs().median()) for g in gradients.values() if g[0].any()), default=math.inf)
    for question in questions:
        last = max(claim.steps for claim in question.claims)
        now, states, here = dict(begun), {name: {} for name in form.trained}, gradients
        for t in range(last + 1):
            if t:
                now = _stepped(question.optimizer, now, here, states, ups=form.ups, lr=lr, t=t)
                here = None
            added: Tensor | None = None if t else before
            for claim in (claim for claim in question.claims if claim.steps == t):
                if here is None and (claim.quantity == "gradient_norm" or claim.factor):
                    _, here = _gradients(response, now, form.trained)
                answer = answers[claim]
                width = min(len(starts) * repeat, answer.values.shape[2] - lo)
                if width <= 0:  # a row of context, whose draws are fewer
                    continue
                if added is None and not (claim.quantity in ("gradient_norm", "loss_decrease") or claim.factor):
                    with torch.no_grad():  # once for all claims about this step
                        added = response.at(now)
                value, entries = _quantity(
                    claim, response, form, probe, begun=begun, now=now, before=before, added=added, first=gradients, here=here, V=V
                )
                numbers = value.detach().cpu().numpy()
                answer.values[i, j, lo : lo + width] = np.broadcast_to(numbers, (width,)) if repeat > 1 else numbers[:width]
                if lo == 0:
                    answer.entries[j] += entries
                    answer.median[j] = min(answer.median[j], median)
            if t < last and here is None:
                _, here = _gradients(response, now, form.trained)


def _quantity(
    claim: Claim, response: Response, form: Form, probe: LayerProbe, *, begun: Tensors, now: Tensors, before: Tensor, added: Tensor | None,
    first: Tensors, here: Tensors | None, V: float,
) -> tuple[Tensor, int]:  # fmt: skip
    """The layer's contribution for every draw, and the entries that an rms is over."""
    if claim.quantity == "gradient_norm" or claim.factor:
        assert here is not None
        names = [claim.factor] if claim.factor else list(here)
        if missing := [name for name in names if name not in here]:
            raise InputError(f"gradient of {missing[0]!r}, which is no trained factor; trained are {', '.join(here)}")
        total = torch.stack([here[name].flatten(1).square().sum(1) for name in names if name]).sum(0)
        return total, math.prod(form.shapes[claim.factor]) if claim.factor else 1
    if claim.quantity == "loss_decrease":
        return -torch.stack([(first[name] * (now[name] - begun[name])).flatten(1).sum(1) for name in first]).sum(0), 1
    assert added is not None
    with torch.no_grad():
        weight = form.linear.weight
        forward, back = float((probe.X @ weight.T).norm()), float((probe.V @ weight).norm())
        if claim.quantity == "input_gradient":
            if claim.statistic == "projection":  # along x: <x, back> = <V, added>
                return _unless_rounding(-response.along(added) / float(probe.X.norm()), back, 1), 1
            return _unless_rounding(response.back_square(now, added), back, 2), probe.X.numel()
        change = added - (before if claim.quantity == "update" else 0.0)
        if claim.statistic == "projection":
            return _unless_rounding(-response.along(change) / V, forward, 1), 1
        return _unless_rounding(response.square(change), forward, 2), probe.V.numel()


def _unless_rounding(values: Tensor, size: float, power: int) -> Tensor:
    """Values of that power of a signal, zero where they are the rounding of one of that size."""
    floor = (ROUNDINGS * torch.finfo(values.dtype).eps * size) ** power
    return torch.where(values.abs() <= floor, 0.0, values)


def _gradients(response: Response, factors: Tensors, trained: Sequence[str]) -> tuple[Tensor, dict[str, Tensor]]:
    """What the adapter does there, and the gradients of its trained factors under the layer's signals."""
    leaves = {name: value.detach().requires_grad_(name in trained) for name, value in factors.items()}
    with torch.enable_grad():
        value = response.at(leaves)
        loss = response.along(value).sum()
        found = torch.autograd.grad(loss, [leaves[name] for name in trained], allow_unused=True, materialize_grads=True)
    return value.detach(), dict(zip(trained, found, strict=True))


def _stepped(
    optimizer: Any, now: Tensors, gradients: Tensors | None, states: Mapping[str, State], *, ups: Sequence[str], lr: float, t: int
) -> dict[str, Tensor]:  # fmt: skip
    """All factors after one step; up-factors take lr times the optimizer's lr_ratio (LoRA+'s B)."""
    assert gradients is not None
    moved = dict(now)
    for name, g in gradients.items():
        ratio = optimizer.option("lr_ratio") if name in ups else 1.0
        moved[name] = now[name] - lr * ratio * STEPS[optimizer.name](optimizer, g, now[name], states[name], t)
    return moved


def _adds_nothing(form: Form, start: Start, probe: LayerProbe, gamma: float) -> bool:
    gammas = torch.full((1,), gamma, dtype=probe.X.dtype, device=probe.X.device)
    with torch.no_grad():
        x = probe.X[: min(probe.tokens, 64)]
        y = form.output({name: value[None] for name, value in start.factors.items()}, start.fixed, gammas, x[None])[0]
        linear = form.linear
        bare = nn.functional.linear(x, linear.weight, linear.bias)
        return bool((y - bare).norm() <= NEARLY * bare.norm())


def _same(a: Start, b: Start) -> bool:
    return all(torch.equal(a.factors[k], b.factors[k]) for k in a.factors) and all(torch.equal(a.fixed[k], b.fixed[k]) for k in a.fixed)


@contextmanager
def _attached(model: nn.Module, forms: Mapping[str, Form], starts: Mapping[str, Start], gamma: float) -> Iterator[None]:
    """The model with one configuration on its linears; on exit it is what it was."""

    def forward_of(layer: str) -> Callable[[Tensor], Tensor]:
        form, start = forms[layer], starts[layer]
        factors = {name: value[None] for name, value in start.factors.items()}

        def forward(x: Tensor) -> Tensor:
            return form.output(factors, start.fixed, torch.full((1,), gamma, dtype=x.dtype, device=x.device), x[None])[0]

        return forward

    with ExitStack() as undo:
        for layer in forms:
            linear = linear_at(model, layer)
            undo.callback(linear.__dict__.pop, "forward", None)
            linear.forward = forward_of(layer)  # type: ignore[method-assign]
        yield
