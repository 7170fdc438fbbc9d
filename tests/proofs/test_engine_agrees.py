"""What the proofs show is what the symbolic engine derives: two routes that share no code, equal at exact numbers."""

from __future__ import annotations

import sys
from fractions import Fraction
from types import ModuleType
from typing import Any

import pytest
import sympy as sp

import rsverify as rv
from rsverify.proving import library

GAUSSIAN = rv.Adapter("gaussian", "o r, r i -> o i", B=rv.Zero(), A=rv.Gaussian(std="1/sqrt(i)"))
D_IN, D_OUT, GAMMA, LR = 5, 3, Fraction(2, 7), Fraction(3, 11)
MOMENTS = {"gaussian": (Fraction(1, D_IN), Fraction(3, D_IN**2)), "lora": (Fraction(1, 3 * D_IN), Fraction(1, 5 * D_IN**2))}
X, PROBE = (1, 2, 2, 0, 4), (2, 4, 2, 1, 0)  # of equal length, not parallel, not orthogonal
NORM2 = sum(a * a for a in X)
DOT = sum(a * b for a, b in zip(X, PROBE, strict=True))
POWER_SUM = sum(a * a * b * b for a, b in zip(X, PROBE, strict=True))


def module(name: str) -> ModuleType:
    library.lemmas()
    return sys.modules[f"rsverify_proofs.{name}"]


def proved(expression: sp.Expr, **values: Any) -> sp.Expr:
    """A formula of a proof at exact numbers, symbols told by name."""
    found = expression.subs({symbol: sp.Rational(str(values[str(symbol)])) for symbol in expression.free_symbols})
    assert not found.free_symbols
    return found


def derived(adapter: str, r: int, **claim: str) -> sp.Expr:
    """The engine's formula at the same numbers, with |v|^2 = 1."""
    subject = GAUSSIAN if adapter == "gaussian" else adapter
    formula = rv.derive(subject, "alpha", **claim).expression  # type: ignore[arg-type]
    values = {
        "r": r, "gamma": GAMMA, "lr": LR, "d_in": D_IN, "d_out": D_OUT, "x_norm2": NORM2, "v_norm2": 1,
        "cosine": Fraction(DOT, NORM2), "S22": POWER_SUM, "S40": sum(a**4 for a in X), "S04": sum(a**4 for a in X),
    }  # fmt: skip
    return formula.subs({symbol: sp.Rational(str(values[str(symbol)])) for symbol in formula.free_symbols})


@pytest.mark.parametrize("adapter", ["lora", "gaussian"])
@pytest.mark.parametrize("r", [1, 4, 64])
def test_output_after_a_step(adapter: str, r: int) -> None:
    variance, fourth = MOMENTS[adapter]
    known = dict(r=r, variance=variance, fourth=fourth, gamma=GAMMA, lr=LR, x_norm2=NORM2, probe_norm2=NORM2, dot=DOT, S22=POWER_SUM, v=1)
    probe = f"cosine:{DOT / NORM2!r}"
    square = derived(adapter, r, quantity="update", statistic="frobenius", probe=probe) ** 2
    assert sp.expand(square - proved(module("forward_clause").square_y, **known)) == 0
    mean = derived(adapter, r, quantity="update", statistic="projection", probe=probe)
    assert sp.expand(mean + proved(module("forward_clause").mean_y, **known)) == 0


@pytest.mark.parametrize("adapter", ["lora", "gaussian"])
@pytest.mark.parametrize("r", [1, 4, 64])
def test_gradient_to_the_input_and_gradient_norm(adapter: str, r: int) -> None:
    variance, fourth = MOMENTS[adapter]
    known = dict(r=r, variance=variance, fourth=fourth, gamma=GAMMA, lr=LR, x_norm2=NORM2, d=D_IN, overlap=1, v_norm2=1)
    square = derived(adapter, r, quantity="input_gradient", statistic="frobenius") ** 2
    assert sp.expand(square - proved(module("backward_clause").square_g, **known)) == 0
    norm = derived(adapter, r, quantity="gradient_norm", statistic="frobenius", steps=0) ** 2  # type: ignore[arg-type]
    assert sp.expand(norm - proved(module("gradient_norm_at_init").mean_square, **known)) == 0


@pytest.mark.parametrize("r", [1, 4, 64])
def test_a_sign_step(r: int) -> None:
    variance = MOMENTS["gaussian"][0]
    mean_abs = sp.sqrt(2 * sp.Rational(str(variance)) * NORM2 / sp.pi)
    claim = module("sign_steps").square_y
    names = {str(symbol): symbol for symbol in claim.free_symbols}
    known = dict(r=r, variance=variance, gamma=GAMMA, lr=LR, x_norm2=NORM2, probe_norm2=NORM2, dot=DOT)
    found = claim.subs({names[name]: sp.Rational(str(value)) for name, value in known.items()}).subs(names["mean_abs"], mean_abs)
    square = derived("gaussian", r, optimizer="signsgd", quantity="update", statistic="rms", probe=f"cosine:{DOT / NORM2!r}") ** 2
    assert sp.expand(square - found) == 0


def test_the_limit_is_that_of_the_lemma() -> None:
    lemma = module("full_finetuning_limit")
    for adapter, (variance, fourth) in MOMENTS.items():
        found = rv.limit_of_rank(GAUSSIAN if adapter == "gaussian" else adapter, "alpha/sqrt(r)")
        known = dict(r=7, variance=variance, fourth=fourth, d=D_IN, alpha=3, lr=LR, x_norm2=NORM2, v_norm2=1)
        rate, distance2 = proved(lemma.effective, **known), proved(lemma.one_step / lemma.full_step, **known)
        assert found.learning_rate(alpha=3, lr=float(LR), d_in=D_IN, d_out=D_OUT) == pytest.approx(float(rate), rel=1e-14)
        assert found.relative_distance(7, d_in=D_IN, d_out=D_OUT) ** 2 == pytest.approx(float(distance2), rel=1e-14)
