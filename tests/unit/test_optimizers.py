"""Optimizers: their texts, their options, and the scalar reference against torch in float64."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rsverify.definitions.optimizers import Optimizer, as_optimizer, optimizers, scalar_reference
from rsverify.errors import InputError, UnknownName

NAMES = {"sgd", "momentum", "normalized-sgd", "signsgd", "lion", "adam", "adamw", "rmsprop", "adagrad", "adafactor", "muon", "muon-torch"}


def test_the_contract_names_are_all_there() -> None:
    assert set(optimizers()) == NAMES
    assert all(name == optimizer.name and optimizer.formula for name, optimizer in optimizers().items())


def test_texts_are_read() -> None:
    optimizer = as_optimizer("adamw:eps=1e-3,lr_ratio=16")
    assert (optimizer.option("eps"), optimizer.option("lr_ratio"), optimizer.option("beta1")) == (1e-3, 16, 0.9)
    assert optimizer.text == str(optimizer) == "adamw:eps=0.001,lr_ratio=16"
    assert as_optimizer(" sgd ") == optimizers()["sgd"] == as_optimizer("sgd:") and as_optimizer(optimizer) is optimizer
    assert optimizers()["adamw"].with_options(eps=1e-3).with_options(lr_ratio=16) == optimizer and hash(
        as_optimizer(optimizer.text)
    ) == hash(optimizer)


@given(st.floats(0, 1e6), st.floats(0, 0.999))
def test_a_text_reads_back_as_the_same_optimizer(eps: float, beta1: float) -> None:
    optimizer = optimizers()["adam"].with_options(eps=eps, beta1=beta1)
    assert as_optimizer(optimizer.text) == optimizer


def test_epsilon_is_zero_in_theory_unless_given() -> None:
    adam = as_optimizer("adam")
    assert adam.option("eps") == 1e-8 and adam.theory_option("eps") == 0 and adam.theory_option("beta2") == 0.999
    assert as_optimizer("adam:eps=1e-3").theory_option("eps") == 1e-3


@pytest.mark.parametrize(
    ("text", "suggestion"),
    [("adamW", "'adamw'"), ("addam", "'adam'"), ("rmsporp", "'rmsprop'"), ("moun", "'muon'"), ("zzzz", "known are adafactor, adagrad")],
)
def test_unknown_optimizers_suggest_the_nearest(text: str, suggestion: str) -> None:
    with pytest.raises(UnknownName, match=f"optimizer={text!r} is not known.*{suggestion}"):
        as_optimizer(text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("adam:epz=1", "has no option 'epz'; did you mean 'eps'"),
        ("sgd:momentum=0.9", "'sgd' has no option 'momentum'"),
        ("adam:eps", "option 'eps' is not name=number"),
        ("adam:eps=", "is not name=number"),
        ("adam:eps=small", "is not name=number"),
        ("adam:eps=-1", "eps=-1.0; expected a finite number from 0"),
        ("adam:eps=nan", "expected a finite number"),
        ("adam:eps=inf", "expected a finite number"),
        ("adam:beta1=1", "expected 0 <= beta1 < 1"),
        ("momentum:momentum=1.5", "expected 0 <= momentum < 1"),
        ("sgd:lr_ratio=0", "would freeze the up-factors"),
        ("adam:=3", "has no option ''"),
    ],
)
def test_options_of_no_use_are_refused(text: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        as_optimizer(text)


TORCH = {
    "sgd": (torch.optim.SGD, {}),
    "momentum": (torch.optim.SGD, {"momentum": "momentum"}),
    "adam": (torch.optim.Adam, {"eps": "eps", "betas": ("beta1", "beta2")}),
    "adamw": (torch.optim.AdamW, {"eps": "eps", "betas": ("beta1", "beta2")}),
    "rmsprop": (torch.optim.RMSprop, {"eps": "eps", "alpha": "alpha"}),
    "adagrad": (torch.optim.Adagrad, {"eps": "eps"}),
}


def torch_path(optimizer: Optimizer, gradients: list[float], *, lr: float, start: float) -> list[float]:
    cls, translation = TORCH[optimizer.name]
    options = {k: tuple(map(optimizer.option, v)) if isinstance(v, tuple) else optimizer.option(v) for k, v in translation.items()}
    w = torch.nn.Parameter(torch.tensor(start, dtype=torch.float64))
    steps = cls([w], lr=lr, weight_decay=optimizer.option("weight_decay"), **options)
    path = []
    for gradient in gradients:
        w.grad = torch.tensor(gradient, dtype=torch.float64)
        steps.step()
        path.append(w.item())
    return path


@pytest.mark.parametrize("name", sorted(TORCH))
@pytest.mark.parametrize("weight_decay", [None, 0.0, 0.1])
@pytest.mark.parametrize("eps", [None, 1e-2])
def test_the_scalar_reference_is_torch(name: str, weight_decay: float | None, eps: float | None) -> None:
    optimizer = as_optimizer(name)
    if weight_decay is not None:
        optimizer = optimizer.with_options(weight_decay=weight_decay)
    if eps is not None and "eps" in optimizer.defaults:
        optimizer = optimizer.with_options(eps=eps)
    gradients, lr, start = [0.3, -1.7, 0.0, 2.5, -0.001], 0.05, 1.25
    ours = scalar_reference(optimizer, gradients, lr=lr, start=start)
    # Five steps of some ten operations each: rounding stays below a hundred units in the last place.
    assert ours == pytest.approx(torch_path(optimizer, gradients, lr=lr, start=start), rel=100 * 2**-52)


@pytest.mark.parametrize("name", sorted(TORCH))
def test_defaults_are_those_of_torch(name: str) -> None:
    cls, translation = TORCH[name]
    defaults, optimizer = cls([torch.nn.Parameter(torch.zeros(1))], lr=0.1).defaults, as_optimizer(name)
    for theirs, ours in translation.items():
        if theirs != "momentum":  # torch's SGD has none unless asked
            assert defaults[theirs] == (tuple(map(optimizer.option, ours)) if isinstance(ours, tuple) else optimizer.option(ours))
    assert optimizer.option("weight_decay") == defaults["weight_decay"]


def test_lion_follows_the_published_update() -> None:
    """Chen et al. 2023, algorithm 2, by hand for two steps."""
    lr, decay, w, m = 0.1, 0.5, 1.0, 0.0
    expected = []
    for g in (2.0, -0.1):
        w -= lr * (math.copysign(1, 0.9 * m + 0.1 * g) + decay * w)
        m = 0.99 * m + 0.01 * g
        expected.append(w)
    assert scalar_reference(as_optimizer("lion:weight_decay=0.5"), [2.0, -0.1], lr=lr, start=1.0) == pytest.approx(expected, rel=1e-15)


def test_signsgd_stands_still_at_zero() -> None:
    assert scalar_reference(as_optimizer("signsgd"), [3.0, 0.0, -0.5], lr=0.5) == [-0.5, -0.5, 0.0]


@pytest.mark.parametrize("name", sorted(name for name, optimizer in optimizers().items() if not optimizer.coordinatewise))
def test_whole_matrix_optimizers_have_no_scalar_reference(name: str) -> None:
    with pytest.raises(InputError, match="looks at whole matrices"):
        scalar_reference(as_optimizer(name), [1.0], lr=0.1)
