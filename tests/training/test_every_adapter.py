"""Every adapter is trained and measured: declared ones, a module of one's own, a library's; each equals itself trained alone."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from rsverify.conformance.declared import declared_subject
from rsverify.definitions.adapter import Adapter
from rsverify.definitions.registry import adapters, as_declared
from rsverify.definitions.rules import as_rule
from rsverify.definitions.wrapped import WrappedAdapter
from rsverify.errors import InputError
from rsverify.training.adapters import forms, paths
from rsverify.training.adapters.contraction import draw_factors
from rsverify.training.adapters.trainable import usable_ranks
from rsverify.training.model.linears import linear_at
from rsverify.training.stack.configuration import Configuration
from rsverify.training.stack.train import train_stacked

sys.path.insert(0, str(Path(__file__).parent))

from test_stacked import small_task

pytestmark = pytest.mark.training
RANK = 3


class Own(nn.Module):
    """An adapter of one's own: a gated LoRA, which no declaration here has."""

    def __init__(self, rank, base, alpha, *, sign=1.0, power=1.0):
        super().__init__()
        self.base, self.scale, self.sign = base.requires_grad_(False), alpha / rank**power, sign
        self.A = nn.Parameter(torch.randn(rank, base.in_features) / base.in_features**0.5)
        self.B = nn.Parameter(torch.zeros(base.out_features, rank))
        self.gate = nn.Parameter(torch.ones(rank))

    def forward(self, x):
        return self.base(x) + self.sign * self.scale * (x @ self.A.T * self.gate) @ self.B.T


class Counting(Own):
    """One that torch.vmap does not take: it asks a number of its data."""

    def forward(self, x):
        return super().forward(x) if x.sum().item() > -1e9 else x


def alone(task, c, steps, build):
    """The loss of one configuration trained by torch.optim.AdamW on plain modules in the place of the linears."""
    modules = {name: build(name, linear_at(task.model, name)) for name in task.targets}
    trained = [p for module in modules.values() for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=c.lr, weight_decay=0.0)
    forwards = {name: linear_at(task.model, name).forward for name in modules}
    losses = []
    try:
        for name, module in modules.items():
            linear_at(task.model, name).forward = module.forward
        for step in range(steps):
            loss = task.losses(task.model, task.batch(step, c.data), 1)[0]
            losses.append(loss.item())
            for p, g in zip(trained, torch.autograd.grad(loss, trained, allow_unused=True, materialize_grads=True), strict=True):
                p.grad = g
            optimizer.step()
    finally:
        for name in forwards:
            linear_at(task.model, name).__dict__.pop("forward")
    return losses


class Plain(nn.Module):
    """A declared adapter by the text of its expression: one einsum of all factors, or its own function of the base weight."""

    def __init__(self, c, layer, linear):
        super().__init__()
        d_out, d_in = linear.weight.shape
        self.c, self.shape, self.bias = c, (d_out, d_in), linear.bias
        W = linear.weight.detach().clone()
        core = c.adapter if isinstance(c.adapter, Adapter) else c.adapter.core
        given = {"rank": c.rank, "d_in": d_in, "d_out": d_out, "seed": c.seed, "draw": c.draw, "layer": layer, "gamma": c.gamma}
        names = {} if core.name == "random-waves" or "residual-base" in c.adapter.tags else draw_factors(core, **given)
        factors, self.W = {name: torch.from_numpy(value) for name, value in names.items()}, W
        if isinstance(c.adapter, WrappedAdapter):
            factors, self.W = c.adapter.start(W, factors, gamma=c.gamma, rank=c.rank)
        elif "base-weight" in c.adapter.tags:
            factors["W"] = W
        trained = set(c.adapter.trainable)
        self.factors = {name: nn.Parameter(value.clone()) if name in trained else value for name, value in factors.items()}
        self.own = nn.ParameterList([value for name, value in self.factors.items() if name in trained])

    def forward(self, x):
        c = self.c
        if isinstance(c.adapter, WrappedAdapter):
            return F.linear(x, c.adapter.weight(self.W, self.factors, gamma=c.gamma, rank=c.rank), self.bias)
        letters = {axis: chr(97 + k) for k, axis in enumerate(c.adapter.axes)}
        rows, columns = c.adapter.result
        terms = ",".join("".join(letters[a] for a in axes) for axes in c.adapter.operands.values())
        delta = torch.einsum(terms + "->" + "".join(letters[a] for a in (*rows, *columns)), *self.factors.values()).reshape(self.shape)
        return F.linear(x, self.W + c.gamma * delta, self.bias)


@pytest.mark.parametrize("name", adapters())
def test_each_shipped_adapter_equals_itself_trained_alone(name):
    task = small_task()
    wanted = [
        Configuration(2 if name == "miss" else RANK, rule, adapter=name, seed=seed, lr=1e-3, optimizer="adamw:weight_decay=0")
        for rule in ("alpha/r", "alpha/sqrt(r)") for seed in (0, 1)
    ]  # fmt: skip
    run = train_stacked(task, wanted, steps=3, workers=1)
    assert run.notes == ()
    for i, c in enumerate(wanted):
        expected = alone(task, c, 3, lambda layer, linear, c=c: Plain(c, layer, linear))
        # Sums in another order, and Adam's division by |g|: a rounding of a small gradient is carried on by its square root.
        np.testing.assert_allclose(run.loss[i], expected, rtol=1e-8)
    assert len({run.loss[i, 2] for i in range(4)}) >= 2


def own_configurations(build, *, ranks=(2, RANK)):
    return [Configuration(rank, "alpha/r", adapter=build, seed=seed, lr=1e-3, optimizer="sgd") for rank in ranks for seed in (0, 1)]


def test_a_module_of_ones_own_is_called_together_and_equals_itself_called_alone():
    task = small_task()
    together = train_stacked(task, own_configurations(Own), steps=3, workers=1)
    one_by_one = train_stacked(task, own_configurations(Counting), steps=3, workers=1)
    assert together.notes == ()
    assert len(one_by_one.notes) == 1
    assert "Counting: configurations are called one after another, torch.vmap does not take it" in one_by_one.notes[0]
    np.testing.assert_allclose(together.loss, one_by_one.loss, rtol=1e-12)
    np.testing.assert_allclose(together.output_rms[:, 1:], one_by_one.output_rms[:, 1:], rtol=1e-10)  # the first are zero, or rounding
    layer = task.targets[0]
    factors = {key: value for key, value in together.factors(0)[layer].items()}
    torch.testing.assert_close(together.delta(0, layer), 20 / 2 * factors["B"] * factors["gate"] @ factors["A"])


def test_a_subject_of_a_declaration_walks_as_the_declaration_from_its_own_draws():
    """The module of our own, called as a black box: a different draw, the same kind of path, and bit for bit itself again."""
    task = small_task()
    subject = declared_subject(as_declared("dora"), "alpha/r")
    wanted = [Configuration(RANK, "alpha/r", adapter=subject, seed=seed, lr=1e-3) for seed in (0, 1)]
    run, again = (train_stacked(task, wanted, steps=2, workers=1) for _ in range(2))
    assert np.array_equal(run.loss, again.loss)
    assert run.loss[0, 1] != run.loss[1, 1]


def test_kinds_may_be_mixed_in_one_run_and_go_on_from_a_checkpoint(tmp_path):
    task = small_task()
    wanted = [Configuration(2, "alpha/r", adapter=adapter, lr=1e-2) for adapter in ("lora", "dora", "loha", Own)]
    whole = train_stacked(task, wanted, steps=4, workers=1)
    file = tmp_path / "run.safetensors"
    train_stacked(task, wanted, steps=2, workers=1, checkpoint=file)
    np.testing.assert_allclose(train_stacked(task, wanted, steps=4, workers=1, checkpoint=file).loss, whole.loss, rtol=1e-12)


def _factor(monkeypatch):
    inner = paths.contract
    monkeypatch.setattr(forms, "contract", lambda path, tensors: 1.01 * inner(path, tensors))


def _shared_gamma(monkeypatch):
    inner = forms.Contracted.output
    monkeypatch.setattr(forms.Contracted, "output", lambda self, f, b, gamma, x: inner(self, f, b, gamma[:1].expand_as(gamma), x))


def _another_base(monkeypatch):
    inner = forms.Reweighted.output
    monkeypatch.setattr(
        forms.Reweighted, "output", lambda self, f, b, gamma, x: inner(self, f, {**b, forms.BASE: 2 * b[forms.BASE]}, gamma, x)
    )


@pytest.mark.parametrize(("name", "mutate"), [("loha", _factor), ("loha", _shared_gamma), ("dora", _another_base)])
def test_a_wrong_form_is_seen(name, mutate, monkeypatch):
    mutate(monkeypatch)
    with pytest.raises(AssertionError):
        test_each_shipped_adapter_equals_itself_trained_alone(name)


def _odd(change):
    def build(rank, base, alpha):
        module = Own(rank, base, alpha)
        change(module, rank, base)
        return module

    return build


def _trains_its_base(module, rank, base):
    base.weight.requires_grad_(True)


def _trains_nothing(module, rank, base):
    module.requires_grad_(False)


def _draws(module, rank, base):
    module.forward = lambda x: base(x) + torch.randn(base.out_features, dtype=x.dtype)


def _narrow(module, rank, base):
    module.forward = lambda x: base(x)[..., :-1]


def _hides_a_draw(module, rank, base):
    hidden = torch.randn(1).item()
    inner = module.forward
    module.forward = lambda x: inner(x) * (1 + hidden)


def _raises(rank, base, alpha):
    raise ZeroDivisionError("no such rank")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda rank, base, alpha: 3.0, "build returned float at rank 2; expected the adapted layer"),
        (_odd(_narrow), r"output of shape \(1, 3, 11\) .* expected \(1, 3, 12\)"),
        (_odd(_trains_nothing), "no parameter requires a gradient"),
        (_odd(_trains_its_base), "the base layer's base.weight is trained too"),
        (_odd(_draws), "it draws in forward"),
        (_raises, "build raised ZeroDivisionError at rank 2 .*: no such rank"),
        (_odd(_hides_a_draw), "in plain attributes"),
    ],
)
def test_a_bad_module_is_refused_with_what_is_wrong(build, message):
    with pytest.raises(InputError, match=message):
        train_stacked(small_task(), own_configurations(build, ranks=(2,)), steps=1, workers=1)


def test_ranks_that_an_adapter_has_not_are_told_and_one_that_ignores_the_rank_is_refused():
    task = small_task()
    linears = {name: linear_at(task.model, name) for name in task.targets}

    def even(rank, base, alpha):
        if rank % 2:
            raise ValueError("an even rank")
        return Own(rank, base, alpha)

    ranks, reasons = usable_ranks(Configuration(2, "alpha/r", adapter=even).adapter, linears, (2, 3, 4), alpha=20.0)
    assert ranks == (2, 4)
    assert "ValueError at rank 3" in reasons[3]
    ranks, reasons = usable_ranks(as_declared("miss"), linears, (2, 5), alpha=20.0)
    assert ranks == (2,) and 5 in reasons
    same = Configuration(2, "alpha/r", adapter=partial(lambda rank, base, alpha: Own(4, base, alpha))).adapter
    with pytest.raises(InputError, match="ignores the rank"):
        usable_ranks(same, linears, (2, 4), alpha=20.0)


def test_the_cheapest_order_is_that_of_all_orders_and_gives_the_same_sum():
    sizes = {"o": 5, "i": 7, "r": 3, "s": 4}
    axes = {"B": ("o", "r"), "A": ("r", "i"), "D": ("o", "s"), "C": ("s", "i")}
    path = paths.path_of(axes, ("o", "i"), sizes)
    assert path.cost == 5 * 3 * 7 + 5 * 4 * 7 + 5 * 7
    drawn = np.random.default_rng(0)
    tensors = {name: torch.from_numpy(drawn.standard_normal((2, *(sizes[a] for a in own)))) for name, own in axes.items()}
    expected = torch.einsum("zor,zri,zos,zsi->zoi", *tensors.values())
    torch.testing.assert_close(paths.contract(path, tensors), expected)


def test_matrix_optimizers_refuse_vectors_with_the_cure():
    assert as_rule("alpha/r").gamma(2, 20.0) == 10.0
    with pytest.raises(InputError, match="muon steps along matrices; m of dora has shape .* e.g. adamw"):
        train_stacked(small_task(), [Configuration(2, "alpha/r", adapter="dora", optimizer="muon")], steps=1, workers=1)
