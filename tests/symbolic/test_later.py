"""Later steps to leading order in lr: bounds that hold in an independent simulation, and what they refuse."""

import math

import numpy as np
import pytest

import rsverify as rv
from benchmarks import _autograd
from rsverify.definitions.claims import setting
from rsverify.errors import NotDerivable

D_IN, D_OUT, LR = 6, 5, 1e-3
RANKS = (4, 64)
CASES = [
    ("adalora", "lion", "update", 3, "aligned"),
    ("hira", "adamw", "update", 2, "aligned"),
    ("vera", "adam", "gradient_norm", 2, "aligned"),
    ("loha", "rmsprop", "loss_decrease", 2, "aligned"),
    ("moe-lora", "adagrad", "input_gradient", 3, "aligned"),
    ("loha-lycoris", "signsgd", "gradient_norm", 1, "aligned"),
    ("lora", "muon", "update", 2, "aligned"),
    ("lora", "normalized-sgd", "gradient_norm", 3, "aligned"),
]  # fmt: skip


def slope(adapter, optimizer, **claim):
    """The power of r between two ranks at a small learning rate, from squares averaged over draws."""
    logs = []
    for rank in RANKS:
        asked = setting(adapter, "1", optimizer=optimizer, **claim)
        question = _autograd.asked(asked, rank=rank, d_in=D_IN, d_out=D_OUT, alpha=1.0, lr=LR, theory=True)
        data = _autograd.flat_data(D_IN, D_OUT, asked.claim.cosine, draws=200, seed=3)
        logs.append(0.5 * math.log(float(np.mean(_autograd.simulate(question, data, draws=200, seed=5).numpy()))))
    return (logs[1] - logs[0]) / math.log(RANKS[1] / RANKS[0])


@pytest.mark.statistical
@pytest.mark.parametrize(("adapter", "optimizer", "quantity", "steps", "probe"), CASES, ids=str)
def test_the_power_at_a_small_rate_is_within_the_bounds(adapter, optimizer, quantity, steps, probe):
    claim = {"quantity": quantity, "steps": steps, "probe": probe}
    prediction = rv.derive(adapter, "1", optimizer=optimizer, **claim)
    low, high = prediction.exponent_range or (prediction.exponent, prediction.exponent)
    assert not prediction.exact
    measured = slope(adapter, optimizer, **claim)
    # Between ranks 4 and 64 terms of relative order 1/r bend the slope by at most log(1 + 1/4)/log(16) a power.
    bend = 2 * math.log(1.25) / math.log(16)
    assert float(low) - bend - 0.05 <= measured <= float(high) + bend + 0.05


def test_a_step_more_continues_the_first():
    """The exponent of several steps is that of one where nothing else moves as far."""
    for adapter, optimizer in (("adalora", "adam"), ("hira", "lion"), ("miss", "adafactor"), ("lora", "muon")):
        one, two = (rv.derive(adapter, "alpha/sqrt(r)", optimizer=optimizer, steps=steps) for steps in (1, 2))
        assert two.exponent == one.exponent and not two.exact and "continue the first" in " ".join(two.notes)


def test_sgd_beyond_the_written_polynomial_is_told_to_leading_order():
    three = rv.derive("loha", "alpha/sqrt(r)", steps=3)
    assert three.exponent == rv.derive("loha", "alpha/sqrt(r)", steps=1).exponent
    assert three.error_order == "O(lr)" and "to leading order in the learning rate" in three.notes[0]
    ratio = three.at([8], d_in=36, d_out=36, lr=1e-6) / rv.derive("loha", "alpha/sqrt(r)", steps=1).at([8], d_in=36, d_out=36, lr=1e-6)
    assert ratio == pytest.approx(3, rel=1e-9)
    # Momentum's buffers hold 1, 1.9 and 2.71 gradients.
    heavy = rv.derive("loha", "alpha/sqrt(r)", optimizer="momentum", steps=3)
    ratio = heavy.at([8], d_in=36, d_out=36, lr=1e-6) / rv.derive("loha", "alpha/sqrt(r)", steps=1).at([8], d_in=36, d_out=36, lr=1e-6)
    assert ratio == pytest.approx(1 + 1.9 + 2.71, rel=1e-9)


@pytest.mark.parametrize(
    ("adapter", "optimizer", "claim", "reason"),
    [
        ("moe-lora", "muon", {"steps": 2}, "only a matrix can be orthogonalised"),
        ("hira", "adam:weight_decay=0.1", {"steps": 2}, "coupled weight decay"),
        ("hira", "lion", {"steps": 2, "probe": "orthogonal", "statistic": "projection"}, "orthogonal probe"),
    ],
)
def test_what_the_bounds_do_not_cover_is_refused_with_its_reason(adapter, optimizer, claim, reason):
    with pytest.raises(NotDerivable, match=reason):
        rv.derive(adapter, "alpha/r", optimizer=optimizer, **claim)
