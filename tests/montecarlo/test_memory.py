"""Memory under the user's bound: what is predicted for a draw is what numpy holds, and a bound changes no number."""

import tracemalloc

import numpy as np
import pytest

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.claims import setting
from rsverify.definitions.laws import Gaussian, Zero
from rsverify.errors import BudgetError
from rsverify.montecarlo.budget import Budget
from rsverify.montecarlo.dense import sampler as dense_sampler
from rsverify.montecarlo.engines import Task, sampler_for
from rsverify.montecarlo.problem import make_problem

LORA = Adapter("lora-gaussian", "o r, r i -> o i", B=Zero(), A=Gaussian(1))
LOHA = Adapter("loha", "o r, r i, o s, s i -> o i", rank_axes=("r", "s"), B=Gaussian(0.1), A=Gaussian(1), D=Zero(), C=Gaussian(1))
XS = Adapter("xs", "o r, r s, s i -> o i", rank_axes=("r", "s"), B=Gaussian(1), R=Gaussian(0.1), A=Gaussian(1))

BESIDE = 100_000 + dense_sampler.WORKERS * 3 * 8192 * 8
"""Beside the draws: streams and Python's own objects; for each worker numpy's iterator buffers of 8192 entries per operand."""


def _peak(adapter, optimizer, *, bytes, engine="dense", samples=1, rank=12, draws=64):
    chosen = setting(adapter, "alpha/r", optimizer=optimizer, quantity="update", steps=3)
    task = Task(chosen, make_problem(0, d_in=40, d_out=30, cosine=1.0, samples=samples), 20.0, 1e-3, 0, Budget(bytes=bytes))
    sampler = sampler_for(task, engine)
    sampler.sample(rank, "warm", 1)
    tracemalloc.start()
    values = sampler.sample(rank, "memory", draws).values
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak, values


@pytest.mark.parametrize("samples", [1, 5])
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adamw", "adafactor", "muon", "normalized-sgd"])
@pytest.mark.parametrize("adapter", [LORA, LOHA, XS], ids=lambda a: a.name)
def test_the_dense_engine_stays_under_its_bound(monkeypatch, adapter, optimizer, samples):
    bound = 1_000_000
    peak, values = _peak(adapter, optimizer, bytes=bound, samples=samples)
    assert peak < bound + BESIDE
    monkeypatch.setattr(dense_sampler, "WORKERS", 1)
    np.testing.assert_allclose(_peak(adapter, optimizer, bytes=10**9, samples=samples)[1], values, rtol=1e-9)


def test_a_bound_forgotten_is_seen(monkeypatch):
    monkeypatch.setattr(dense_sampler, "bytes_per_draw", lambda *a, **k: 8)
    assert _peak(LORA, "adamw", bytes=1_000_000, draws=640)[0] > 1_000_000 + BESIDE


@pytest.mark.parametrize("optimizer", ["sgd", "normalized-sgd"])
def test_the_gram_engine_stays_under_its_bound(optimizer):
    assert _peak(LORA, optimizer, bytes=200_000, engine="gram", samples=5, draws=5000)[0] < 200_000 + BESIDE


def test_not_even_one_draw():
    with pytest.raises(BudgetError, match="one draw at rank 12") as caught:
        _peak(LORA, "sgd", bytes=10_000)
    assert caught.value.needed > caught.value.allowed
