"""Adapters that are not multilinear, to leading order in lr: held against their own modules, drawn with a Gaussian base weight."""

import math

import pytest
import torch

import rsverify as rv
from rsverify.errors import NotDerivable
from rsverify.statistics.streams import stream

LR, DRAWS = 1e-7, 32
SIZES = {"dora": (8, (64, 512)), "delora": (8, (64, 512)), "fourierft": (32, (128, 512)), "pissa": (64, (2, 16)), "olora": (64, (2, 16))}
"""Width and ranks: far beyond the width where the power is that at fixed widths, far below the places of FourierFT, below the width."""


def squares(adapter, rank, *, optimizer, quantity, probe, p):
    """Mean square of a quantity after one step of an adapter's own module, by autograd; nothing of the theory is used."""
    declared, D = rv.adapters()[adapter], SIZES[adapter][0]
    total = 0.0
    for draw in range(DRAWS):
        rng = stream(7, "wrapped", adapter, draw)

        def tensor(*shape, rng=rng):
            return torch.tensor(rng.standard_normal(shape))

        W, x, v = tensor(D, D) / D**0.5, torch.sign(tensor(D)), torch.sign(tensor(D)) / D**0.5
        other = torch.sign(tensor(D))
        other[D // 2 :] = -other[: D // 2] * x[: D // 2] * x[D // 2 :]
        x_probe = x if probe == "aligned" else other  # x . other = 0
        gamma = rank**-p
        drawn = {"B": torch.zeros(D, rank, dtype=W.dtype), "A": tensor(rank, D) / D**0.5, "c": torch.zeros(rank, dtype=W.dtype)}
        factors, base = declared.start(W, drawn, gamma=gamma, rank=rank)
        leaves = {name: value.clone().requires_grad_(name in declared.trainable) for name, value in factors.items()
                  if value.is_floating_point() or name in declared.trainable}  # fmt: skip
        held = {name: value for name, value in factors.items() if name not in leaves}
        before = declared.weight(base, {**leaves, **held}, gamma=gamma, rank=rank)
        (v @ before @ x).backward()
        with torch.no_grad():
            steps = {name: leaves[name].grad for name in declared.trainable if leaves[name].grad is not None}
            if quantity == "gradient_norm":
                total += sum(float((g * g).sum()) for g in steps.values())
                continue
            moved = {name: leaf - LR * (torch.sign(steps[name]) if optimizer == "signsgd" else steps[name]) if name in steps else leaf
                     for name, leaf in leaves.items()}  # fmt: skip
            change = declared.weight(base, {**moved, **held}, gamma=gamma, rank=rank) - before
            y = change @ x_probe if quantity == "update" else change.T @ v
            total += float((y * y).mean())
    return total / DRAWS


CASES = [
    (adapter, optimizer, quantity, probe)
    for adapter in ("dora", "pissa", "olora", "delora", "fourierft")
    for optimizer in ("sgd", "signsgd")
    for quantity, probe in (("update", "aligned"), ("update", "orthogonal"), ("gradient_norm", "aligned"), ("input_gradient", "aligned"))
    if (adapter, probe) != ("pissa", "orthogonal")  # sums of s_k**2 (1 - r/d): at this width the spectrum bends the slope past the margin
]


@pytest.mark.statistical
@pytest.mark.parametrize("p", [0.0, 1.0])
@pytest.mark.parametrize(("adapter", "optimizer", "quantity", "probe"), CASES, ids=str)
def test_the_power_is_that_of_the_module(adapter, optimizer, quantity, probe, p):
    try:
        prediction = rv.derive(
            adapter,
            "1" if p == 0 else "1/r",
            optimizer=optimizer,
            quantity=quantity,
            probe=probe,
            steps=0 if quantity == "gradient_norm" else 1,
        )
    except NotDerivable as refused:
        pytest.skip(str(refused))
    low, high = prediction.exponent_range or (prediction.exponent, prediction.exponent)
    assert not prediction.exact
    small, large = (squares(adapter, rank, optimizer=optimizer, quantity=quantity, probe=probe, p=p) for rank in SIZES[adapter][1])
    measured = 0.5 * math.log(large / small) / math.log(SIZES[adapter][1][1] / SIZES[adapter][1][0])
    print(f"{adapter} {optimizer} {quantity} {probe} p={p}: {low}..{high} measured {measured:.2f}")
    assert float(low) - 0.2 <= measured <= float(high) + 0.2
