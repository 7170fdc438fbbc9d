"""Exact mean and covariance of LoRA's output after SGD steps on given samples and signals, at given numbers.

B_k = Q_k A_0' and A_k = A_0 M_k, where Q_k and M_k follow from the data alone (see `steps`): each entry of the output is
gamma u'W w with W = A_0'A_0, u a row of Q_k and w = M_k x'. Its moments need no draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy as sp

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.optimizers import Optimizer, as_optimizer
from rsverify.definitions.registry import as_adapter
from rsverify.errors import InputError, NotDerivable
from rsverify.symbolic.moments import symbols as s
from rsverify.symbolic.moments.sizes import spread
from rsverify.symbolic.steps.magnitude import exact_number
from rsverify.symbolic.steps.polynomial import learning_rate_ratio
from rsverify.symbolic.steps.several import momentum, up_and_down


@dataclass(frozen=True)
class GivenSteps:
    """Mean and covariance over draws of A_0 of the output gamma B_k A_k x'.

    Shapes: mean (d_out,); covariance (d_out, d_out). Exact fractions where the data was given as fractions or whole numbers.
    """

    mean: np.ndarray
    covariance: np.ndarray

    @property
    def second_moment(self) -> Any:
        """E |y|**2."""
        return (self.mean * self.mean).sum() + np.trace(self.covariance)


def given_steps(
    adapter: Adapter | str,
    samples: Sequence[Sequence[Any]],
    signals: Sequence[Sequence[Any]],
    probe: Sequence[Any],
    *,
    rank: int,
    gamma: Any = 1,
    lr: Any = 1,
    optimizer: Optimizer | str = "sgd",
) -> GivenSteps:
    """One SGD step per given pair of sample x_k and signal v_k, then the output on a probe.

    Args: samples (steps, d_in), signals (steps, d_out), probe (d_in,): floats, or fractions for exact answers.
    Raises: NotDerivable for another structure than LoRA with B = 0, another optimizer than sgd and momentum, or dependent entries of A.
    """
    adapter, optimizer = as_adapter(adapter), as_optimizer(optimizer)
    names = up_and_down(adapter)
    if names is None:
        raise NotDerivable(f"steps on given data are derived for LoRA with B = 0, which {adapter.name!r} ({adapter.expression}) is not")
    up, down = names
    law = adapter.laws[down]
    if optimizer.name not in ("sgd", "momentum") or optimizer.option("clip"):
        raise NotDerivable(f"steps of {optimizer.text} are not linear in A_0; given data is followed under sgd and momentum")
    if not law.independent or law.standard_moment(1) or law.standard_moment(3):
        raise NotDerivable(f"steps on given data are derived for independent symmetric entries of {down}; here it is {law.text()}")
    x, v, p = (np.array(value, dtype=_kind(samples, signals, probe, gamma, lr)) for value in (samples, signals, probe))
    if x.ndim != 2 or v.ndim != 2 or p.shape != x.shape[1:] or len(x) != len(v):
        raise InputError(f"samples{x.shape}, signals{v.shape}, probe{p.shape}; expected (steps, d_in), (steps, d_out), (d_in,)")
    exact = x.dtype == object
    Q, M = _followed(x, v, gamma, lr, optimizer, adapter, up, down if down in adapter.trainable else None, exact=exact)
    sizes: dict[Any, Any] = {s.r: rank, s.d_in: x.shape[1], s.d_out: v.shape[1]}
    variance = sp.Rational(law.standard_moment(2)) * spread(adapter, down).subs(sizes) ** 2
    excess = sp.Rational(law.standard_cumulant(4)) * spread(adapter, down).subs(sizes) ** 4
    var, kappa = (value if exact else float(value) for value in (variance, excess))
    w = M @ p
    along, lengths = Q @ w, Q @ Q.T
    mean = gamma * rank * var * along
    # W is a sum over r independent channels a a': covariance of (u.a)(w.a) and (u'.a)(w.a), by the two crossed pairings and the cumulant.
    crossed = lengths * (w @ w) + np.outer(along, along)
    covariance = gamma**2 * rank * (var**2 * crossed + kappa * ((Q * w) @ (Q * w).T))
    return GivenSteps(mean, covariance)


def _kind(*given: Any) -> Any:
    """Objects where every number is a fraction or whole, so that arithmetic stays exact; floats otherwise."""
    numbers = [number for value in given for number in np.array(value, dtype=object).ravel()]
    return float if any(isinstance(number, float | np.floating) for number in numbers) else object


def _followed(
    x: np.ndarray, v: np.ndarray, gamma: Any, lr: Any, optimizer: Optimizer, adapter: Adapter, up: str, down: str | None, *, exact: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Q_k and M_k after all steps; `down` is None where A is frozen."""

    def number(value: Any) -> Any:
        return value if exact else float(value)

    decay, kept = number(exact_number(optimizer.option("weight_decay"))), number(momentum(optimizer))
    rate_b = lr * number(learning_rate_ratio(optimizer, adapter, up))
    rate_a = lr * number(learning_rate_ratio(optimizer, adapter, down)) if down else 0
    Q, M = np.zeros((v.shape[1], x.shape[1]), dtype=x.dtype), np.eye(x.shape[1], dtype=int).astype(x.dtype)
    buffer_q, buffer_m = 0 * Q, 0 * M
    for sample, signal in zip(x, v, strict=True):
        buffer_q = kept * buffer_q + gamma * np.outer(signal, M @ sample) + decay * Q
        buffer_m = kept * buffer_m + gamma * np.outer(Q.T @ signal, sample) + decay * M
        Q, M = Q - rate_b * buffer_q, M - rate_a * buffer_m
    return Q, M
