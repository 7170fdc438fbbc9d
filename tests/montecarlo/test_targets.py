"""Simulation of every target: where it looks, what it draws of a declaration that is not multilinear, which factories it refuses."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

import rsverify as rv
from rsverify.definitions.rules import as_rule
from rsverify.definitions.targets import as_target
from rsverify.errors import InputError
from rsverify.montecarlo import Budget, Store, estimate
from rsverify.montecarlo.module.declared import builder
from rsverify.montecarlo.places import MODULES, SPECTRAL, place_of


class Lora(nn.Module):
    def __init__(self, rank, base, alpha):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.A = nn.Parameter(torch.randn(rank, base.in_features, dtype=base.weight.dtype) / math.sqrt(base.in_features))
        self.B = nn.Parameter(torch.zeros(base.out_features, rank, dtype=base.weight.dtype))
        self.gamma = alpha / rank

    def forward(self, x):
        return self.base(x) + self.gamma * (x @ self.A.T @ self.B.T)


@pytest.mark.parametrize("name", ["dora", "pissa", "olora", "delora", "fourierft"])
def test_what_is_not_multilinear_moves_as_the_suites_own_module_of_it(name):
    """Two modules of one declaration, written apart: the same layer at init, and the same first step for the same factors."""
    from rsverify.conformance.declared import Implementation

    adapter, rule, rank = rv.adapters()[name], as_rule("alpha/r"), 3
    torch.manual_seed(5)
    first, second = (nn.Linear(8, 6, bias=False, dtype=torch.float64) for _ in range(2))
    second.load_state_dict(first.state_dict())
    ours, theirs = builder(adapter, rule)(rank, first, 20.0), Implementation(adapter, rule).build(rank, second, 20.0)
    held = theirs.part.factors()
    with torch.no_grad():
        for key in (*adapter.trainable, *(set(held) - set(adapter.trainable))):
            getattr(ours, key).copy_(held[key])
    x, v = torch.randn(4, 8, dtype=torch.float64), torch.randn(4, 6, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-12, atol=1e-12)
    gradients = [
        torch.autograd.grad((layer(x) * v).sum(), [factor(key) for key in adapter.trainable], materialize_grads=True, allow_unused=True)
        for layer, factor in ((ours, lambda key: getattr(ours, key)), (theirs, held.__getitem__))
    ]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-10)
    assert any(g.any() for g in gradients[0])


def test_every_shipped_adapter_has_a_place_where_each_axis_is_whole():
    for name, adapter in rv.adapters().items():
        sizes = place_of(as_target(name)).sizes
        for one in filter(None, (sizes, sizes.far)):
            declared = adapter if isinstance(adapter, rv.Adapter) else adapter.core
            for rank in one.ranks:
                declared.axis_sizes(rank, one.d_in, one.d_out)
                assert sizes.regime == "rank" or rank * 8 <= min(one.d_in, one.d_out), name


def test_a_factory_is_simulated_beyond_the_widths_where_its_rank_goes_there_and_below_where_not():
    def bounded(rank, base, alpha):
        if rank > min(base.weight.shape):
            raise ValueError("more directions than the layer has")
        return Lora(rank, base, alpha)

    def clipped(rank, base, alpha):
        return Lora(min(rank, *base.weight.shape), base, alpha)

    assert place_of(as_target(Lora)).sizes == MODULES
    assert place_of(as_target(bounded)).sizes == place_of(as_target(clipped)).sizes == SPECTRAL


def test_where_an_adapter_divides_the_width_the_exponent_is_that_of_ranks_below():
    found = estimate("randlora", "alpha/r", budget=Budget(draws=2000, entries=None))
    assert found.claim.regime == "rank" and max(found.ranks) < min(found.data["d_in"], found.data["d_out"])
    assert found.interval[0] < -2 < found.interval[1]


def _noisy(rank, base, alpha):
    return nn.Sequential(Lora(rank, base, alpha), nn.Dropout(0.5)).train()


def _trains_its_base(rank, base, alpha):
    module = Lora(rank, base, alpha)
    base.requires_grad_(True)
    return module


def _frozen(rank, base, alpha):
    return Lora(rank, base, alpha).requires_grad_(False)


def _wide(rank, base, alpha):
    return nn.Sequential(Lora(rank, base, alpha), nn.Linear(base.out_features, 3))


def _raises(rank, base, alpha):
    raise RuntimeError("no kernel for this layer")


def _ignores(rank, base, alpha):
    return Lora(4, base, alpha * 4 / 4)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda rank, base, alpha: rank, "returned int; expected a torch.nn.Module"),
        (_wide, r"returned \(2, 3\); expected \(2, 12\)"),
        (_frozen, "no parameter requires a gradient"),
        (_trains_its_base, "base layer's weight is trained too"),
        (_noisy, "two forward passes on the same x differ"),
        (_ignores, "ignores the rank"),
        (_raises, r"does not build at any of the ranks.*RuntimeError: no kernel for this layer"),
    ],
)
def test_a_factory_that_cannot_be_judged_is_refused_with_its_cause(build, message):
    with pytest.raises(InputError, match=message) as caught:
        estimate(build, "alpha/r", ranks=(4, 8, 16), d_in=16, d_out=12)
    assert build is not _raises or isinstance(caught.value.__cause__, RuntimeError)


def test_a_factory_that_works_at_some_ranks_is_judged_there_and_says_so():
    def even(rank, base, alpha):
        if rank == 8:
            raise ValueError("8 is not for me")
        return Lora(rank, base, alpha)

    found = estimate(even, "alpha/r", ranks=(4, 8, 16), d_in=6, d_out=4, statistic="projection", precision=0.5)
    assert found.ranks == (4, 16) and "builds nothing at rank 8 (ValueError: 8 is not for me)" in found.notes[-1]


def test_a_module_of_unknown_rule_is_judged_as_it_is_built():
    found = estimate(Lora, ranks=(16, 64), d_in=6, d_out=4, statistic="projection", precision=0.2)
    assert found.claim.rule == "as-built"
    assert found.exponent is not None and np.isclose(found.exponent, -1, atol=0.1)


@pytest.mark.parametrize(("optimizer", "name"), [("sgd", "vera"), ("adamw", "loha")])
def test_one_training_serves_every_headline_and_changes_no_number(optimizer, name):
    store, sizes = Store(), {"ranks": (4, 8), "d_in": 6, "d_out": 4, "budget": Budget(entries=1e5), "optimizer": optimizer}
    looks = [("update", "rms"), ("update", "projection"), ("loss_decrease", "rms")]
    shared = [estimate(name, "alpha/r", quantity=q, statistic=s, store=store, **sizes) for q, s in looks]
    alone = [estimate(name, "alpha/r", quantity=q, statistic=s, **sizes) for q, s in looks]
    assert [e.curve for e in shared] == [e.curve for e in alone]
