"""Draws that claims share: the numbers are those of claims alone, nothing is drawn twice, and a store keeps to its bytes."""

import numpy as np
import pytest

import rsverify as rv
from rsverify.definitions.claims import setting
from rsverify.montecarlo import Budget, Store, estimate
from rsverify.montecarlo.engines import Task, sampler_for
from rsverify.montecarlo.gram import rows
from rsverify.montecarlo.problem import make_problem

RANKS = (4, 16, 64, 256)
CLAIMS = (
    {"rule": "alpha/r", "optimizer": "sgd"},
    {"rule": "alpha/sqrt(r)", "optimizer": "sgd"},
    {"rule": "alpha/r", "optimizer": "sgd", "quantity": "gradient_norm", "statistic": "frobenius", "steps": 0},
    {"rule": "alpha/r", "optimizer": "sgd", "quantity": "input_gradient"},
    {"rule": "alpha/sqrt(r)", "optimizer": "sgd", "quantity": "input_gradient"},
    {"rule": "alpha/r", "optimizer": "adamw"},
    {"rule": "alpha/sqrt(r)", "optimizer": "adamw", "quantity": "loss_decrease"},
)


def _curves(store):
    return [[p.value for p in estimate("lora", ranks=RANKS, d_in=8, d_out=5, margin=0.2, store=store, **claim).curve] for claim in CLAIMS]


def test_claims_that_share_draws_have_the_numbers_that_they_have_alone():
    np.testing.assert_allclose(_curves(Store()), _curves(None), rtol=1e-12)


def test_what_one_rule_has_drawn_another_does_not_draw(monkeypatch):
    calls = []
    draw = rows.Rows.draw
    monkeypatch.setattr(rows.Rows, "draw", lambda self, *a: calls.append(a) or draw(self, *a))
    counts, store = [], Store()
    for claim in CLAIMS:
        estimate("lora", ranks=RANKS, d_in=8, d_out=5, margin=0.2, store=store, **claim)
        counts.append(len(calls))
    drawn = np.diff(counts, prepend=0)
    assert (drawn[[0, 3, 5]] > 0).all() and not drawn[[1, 2, 4]].any()


def test_other_data_other_laws_and_other_seeds_share_nothing():
    store, values = Store(), []
    for law, seed, d_in in (
        (rv.KaimingUniform("i"), 0, 8),
        (rv.Uniform("1/i"), 0, 8),
        (rv.KaimingUniform("i"), 1, 8),
        (rv.KaimingUniform("i"), 0, 9),
    ):
        asked = setting(rv.adapters()["lora"].with_init(A=law), "alpha/r", optimizer="sgd")
        for kept in (store, None):
            task = Task(asked, make_problem(seed, d_in=d_in, d_out=5, cosine=1.0), 20.0, 1e-3, seed, Budget(), kept)
            values.append(sampler_for(task).sample(16, "sample", 50).values)
    np.testing.assert_allclose(values[0::2], values[1::2], rtol=1e-12)


@pytest.mark.parametrize("least", [1, 3])
def test_a_store_keeps_what_is_used_and_no_more_than_its_bytes(least):
    store, made = Store(bytes=8 * 8 * 10), []

    def get(key, length=8):
        return store.get(key, lambda: made.append(key) or (np.zeros(length),), enough=lambda held: len(held[0]) >= least)

    for key in (*range(10), 0, 10, 0, 1):
        get(key)
    assert made == [*range(10), 10, 1]  # 0 was used again, so that 1 went for 10
    get("large", 81)
    get("large", 81)
    assert made[-2:] == ["large", "large"]
    get(0, 2)
    assert made[-1] == "large"


def test_fewer_draws_than_asked_are_drawn_again():
    store = Store()
    first = store.get("a", lambda: (np.arange(3),), enough=lambda held: len(held[0]) >= 3)
    more = store.get("a", lambda: (np.arange(5),), enough=lambda held: len(held[0]) >= 5)
    assert len(first[0]) == 3 and len(more[0]) == 5 and store.get("a", lambda: (np.arange(0),))[0] is more[0]
