"""LoRA under SGD at large rank is full fine-tuning: the derived rate, limit and distance against a plain numpy simulation."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

import rsverify as rv
from rsverify.errors import InputError, NotDerivable, RuleError
from rsverify.statistics.streams import stream

D_IN, D_OUT, ALPHA, LR = 6, 4, 3.0, 0.02
GAUSSIAN = rv.Adapter("gaussian", "o r, r i -> o i", B=rv.Zero(), A=rv.Gaussian(std="1/sqrt(i)"))
SIGMAS = 6.0
"""A mean of many draws farther than this from its expectation: false at most once in 1e8."""


def draw_A(rng: np.random.Generator, adapter: str, r: int) -> np.ndarray:
    if adapter == "lora":
        return rng.uniform(-1, 1, (r, D_IN)) / math.sqrt(D_IN)
    return rng.standard_normal((r, D_IN)) / math.sqrt(D_IN)


def of(name: str) -> rv.Adapter | str:
    return GAUSSIAN if name == "gaussian" else name


def lora_weight(A: np.ndarray, gamma: float, steps: int, target: np.ndarray, X: np.ndarray, *, momentum: float = 0.0) -> np.ndarray:
    """gamma B A after steps of SGD on the mean squared error against a linear target, signals following the weights."""
    B, buffer_A, buffer_B = np.zeros((D_OUT, len(A))), np.zeros_like(A), np.zeros((D_OUT, len(A)))
    for _ in range(steps):
        signal = (gamma * B @ A - target) @ X.T @ X / len(X)  # dL/dW
        buffer_A, buffer_B = momentum * buffer_A + gamma * B.T @ signal, momentum * buffer_B + gamma * signal @ A.T
        A, B = A - LR * buffer_A, B - LR * buffer_B
    return gamma * B @ A


def full_weight(rate: float, steps: int, target: np.ndarray, X: np.ndarray, *, momentum: float = 0.0) -> np.ndarray:
    W = buffer = np.zeros((D_OUT, D_IN))
    for _ in range(steps):
        buffer = momentum * buffer + (W - target) @ X.T @ X / len(X)
        W = W - rate * buffer
    return W


@pytest.mark.parametrize("name", ["lora", "gaussian"])
def test_one_step_is_as_far_from_full_finetuning_as_derived(name: str) -> None:
    found = rv.limit_of_rank(of(name), "alpha/sqrt(r)")
    r, draws = 8, 4000
    rng = stream(0, "limit", name)
    x, v = rng.standard_normal(D_IN), rng.standard_normal(D_OUT)
    gamma = ALPHA / math.sqrt(r)
    rate = found.learning_rate(alpha=ALPHA, lr=LR, d_in=D_IN, d_out=D_OUT, r=r)
    full = -rate * np.outer(v, x)
    apart = []
    for _ in range(draws):
        A = draw_A(rng, name, r)
        step = -LR * gamma**2 * np.outer(v, A @ x) @ A
        apart.append(((step - full) ** 2).sum() / (full**2).sum())
    distance2 = found.relative_distance(r, d_in=D_IN, d_out=D_OUT) ** 2
    assert abs(np.mean(apart) - distance2) < SIGMAS * np.std(apart) / math.sqrt(draws)
    # The sample could have shown a distance that is wrong by a tenth.
    assert SIGMAS * np.std(apart) / math.sqrt(draws) < 0.1 * distance2


@pytest.mark.parametrize(("name", "momentum"), [("lora", 0.0), ("gaussian", 0.0), ("lora", 0.9)])
def test_the_trajectory_approaches_full_finetuning_at_the_derived_power(name: str, momentum: float) -> None:
    """Mean squared distances after five steps at ranks 256 and 4096: their ratio is 16**(2 approach) up to O(1/r) and sampling."""
    found = rv.limit_of_rank(of(name), "alpha/sqrt(r)", optimizer="momentum" if momentum else "sgd")
    rng = stream(1, "limit", name)
    target, X = rng.standard_normal((D_OUT, D_IN)), rng.standard_normal((12, D_IN))
    full = full_weight(found.learning_rate(alpha=ALPHA, lr=LR, d_in=D_IN, d_out=D_OUT), 5, target, X, momentum=momentum)
    log, error2 = {}, 0.0
    for r in (256, 4096):
        apart = [
            ((lora_weight(draw_A(rng, name, r), ALPHA / math.sqrt(r), 5, target, X, momentum=momentum) - full) ** 2).sum()
            for _ in range(300)
        ]
        log[r] = math.log(np.mean(apart))
        error2 += np.var(apart) / np.mean(apart) ** 2 / len(apart)
        assert np.mean(apart) < 0.1 * (full**2).sum()
    power = (log[4096] - log[256]) / math.log(16) / 2
    margin = 0.1  # the project's margin in an exponent; the finite-rank correction is O(1/256)
    assert SIGMAS * math.sqrt(error2) / math.log(16) / 2 < margin
    assert abs(power - float(found.approach)) < margin


def test_the_usual_rule_trains_nothing_in_the_limit() -> None:
    found = rv.limit_of_rank("lora", "alpha/r")
    assert (found.kind, found.exponent) == ("no training", -1)
    assert found.learning_rate(alpha=ALPHA, lr=LR, d_in=D_IN, d_out=D_OUT) == 0
    rng = stream(2, "limit")
    target, X = rng.standard_normal((D_OUT, D_IN)), rng.standard_normal((12, D_IN))
    log, error2 = {}, 0.0
    for r in (256, 4096):
        sizes = [(lora_weight(draw_A(rng, "lora", r), ALPHA / r, 5, target, X) ** 2).sum() for _ in range(100)]
        log[r] = math.log(np.mean(sizes))
        error2 += np.var(sizes) / np.mean(sizes) ** 2 / len(sizes)
    assert SIGMAS * math.sqrt(error2) / math.log(16) / 2 < 0.1  # the sample could have shown a breach of the margin
    assert abs((log[4096] - log[256]) / math.log(16) / 2 - float(found.exponent)) < 0.1


def test_the_limit_is_named_for_every_rule() -> None:
    stable = rv.limit_of_rank("lora", "alpha/sqrt(r)")
    assert (stable.kind, stable.exponent, stable.approach) == ("full fine-tuning", 0, Fraction(-1, 2))
    assert stable.limit is not None and stable.limit.text == "alpha**2*lr/(3*d_in)"
    shifted = rv.limit_of_rank("lora", "alpha/sqrt(r+7)")
    assert shifted.limit == stable.limit and shifted.rate != stable.rate
    grows = rv.limit_of_rank("lora", "alpha")
    assert (grows.kind, grows.exponent, grows.limit) == ("unbounded", 1, None)
    with pytest.raises(InputError, match=r"grows as r\*\*\(1\) and has no limit; give r"):
        grows.learning_rate(alpha=1, lr=1, d_in=4, d_out=4)
    # PEFT's "gaussian": a standard deviation of 1/r makes the usual rule vanish twice as fast, and gamma ~ sqrt(r) the stable one.
    peft = rv.Adapter("peft", "o r, r i -> o i", B=rv.Zero(), A=rv.Gaussian(std="1/r"))
    assert rv.limit_of_rank(peft, "alpha/r").exponent == -3
    assert rv.limit_of_rank(peft, "alpha*sqrt(r)").kind == "full fine-tuning"


def test_modules_move_by_their_fan_in() -> None:
    rates = rv.limit_of_rank("lora", "alpha/sqrt(r)").by_module({"up": (256, 64), "down": (64, 256)}, alpha=20, lr=1e-3)
    assert rates["up"] == pytest.approx(20**2 * 1e-3 / (3 * 64)) and rates["up"] / rates["down"] == pytest.approx(4)


@pytest.mark.parametrize(
    ("adapter", "options", "reason"),
    [
        ("vera", {}, "another structure"),
        ("loha", {}, "another structure"),
        ("dora", {}, "multilinear core 'lora'"),
        ("lora", {"optimizer": "adamw"}, "SGD without decay"),
        ("lora", {"optimizer": "sgd:clip=1"}, "SGD without decay"),
        ("lora", {"optimizer": "momentum:weight_decay=0.1"}, "SGD without decay"),
        (rv.Adapter("both", "o r, r i -> o i", B=rv.Gaussian(), A=rv.Gaussian()), {}, "zero at init"),
        (rv.Adapter("stuck", "o r, r i -> o i", B=rv.frozen(rv.Zero()), A=rv.Gaussian()), {}, "zero at init and trained"),
    ],
)
def test_what_has_no_such_limit_is_refused_with_the_reason(adapter: rv.Adapter | str, options: dict[str, str], reason: str) -> None:
    with pytest.raises(NotDerivable, match=reason):
        rv.limit_of_rank(adapter, "alpha/sqrt(r)", **options)


def test_a_rule_without_a_power_is_refused() -> None:
    with pytest.raises(RuleError):
        rv.limit_of_rank("lora", "alpha/log(r)")
    with pytest.raises(RuleError):
        rv.limit_of_rank("lora", lambda r, alpha: alpha / r)
