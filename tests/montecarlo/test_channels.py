"""The rank-channel engine: against plain loops over the same rows of A, in law against the dense engine, and mutants."""

import math

import numpy as np
import pytest
from scipy import stats

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.claims import setting
from rsverify.definitions.laws import Gaussian, KaimingUniform, Orthonormal, Uniform, Zero, frozen
from rsverify.definitions.optimizers import as_optimizer, scalar_reference
from rsverify.errors import BudgetError, InputError
from rsverify.montecarlo.budget import Budget
from rsverify.montecarlo.channels import moves
from rsverify.montecarlo.channels.sampler import ChannelSampler
from rsverify.montecarlo.engines import Task, sampler_for, silent_engines
from rsverify.montecarlo.gram.rows import CHANNELS, Rows, blocks
from rsverify.montecarlo.problem import make_problem
from rsverify.statistics.rounding import sum_of_products_bound

GAUSSIAN = Adapter("lora-gaussian", "o r, r i -> o i", B=Zero(), A=Gaussian("1/sqrt(i)"))
UNIFORM = GAUSSIAN.with_init(A=KaimingUniform("i")).renamed("lora")
FROZEN = GAUSSIAN.with_init(A=frozen(Gaussian("1/sqrt(i)"))).renamed("lora-fa")
FIRST = ["sgd", "momentum", "signsgd", "lion", "adam", "adamw:weight_decay=3", "adam:eps=0.01", "rmsprop", "adagrad", "sgd:lr_ratio=4"]
RATE = 1e-7  # of false failure of each comparison in law, some 60 of them


def _task(adapter=GAUSSIAN, optimizer="adamw", quantity="update", statistic="rms", steps=1, samples=2, probe="cosine:0.5", **more):
    chosen = setting(
        adapter, more.get("rule", "alpha/sqrt(r)"), optimizer=optimizer, quantity=quantity, statistic=statistic, steps=steps, probe=probe
    )
    problem = make_problem(2, d_in=more.get("d_in", 7), d_out=3, cosine=0.5, samples=samples)
    return Task(chosen, problem, 20.0, more.get("lr", 0.02), more.get("seed", 0), more.get("budget") or Budget())


def _loops(A, problem, optimizer, *, gamma, lr, steps, a_trained):
    """B column by column and entry by entry by the scalar formula; outputs at the probes, decrease of the loss, squared gradients."""
    r, d, p, n = len(A), len(A[0]), len(problem.v), problem.x.shape[1]
    seen = [[sum(A[k][i] * problem.x[i][s] for i in range(d)) for s in range(n)] for k in range(r)]
    g = [[float(gamma * sum(problem.v[o][s] * seen[k][s] for s in range(n))) for k in range(r)] for o in range(p)]
    rate = lr * optimizer.option("lr_ratio")
    B = [[scalar_reference(optimizer, [g[o][k]] * steps, lr=rate)[-1] for k in range(r)] for o in range(p)]
    c = 1 - lr * optimizer.option("weight_decay") if a_trained else 1.0
    probe = [[sum(A[k][i] * problem.x_probe[i][s] for i in range(d)) for s in range(n)] for k in range(r)]
    y = [[gamma * c * sum(B[o][k] * probe[k][s] for k in range(r)) for s in range(n)] for o in range(p)]
    decrease = -sum(g[o][k] * B[o][k] for o in range(p) for k in range(r))
    gA = [
        [gamma * sum(B[o][k] * problem.v[o][s] * problem.x[i][s] for o in range(p) for s in range(n)) for i in range(d)] for k in range(r)
    ]
    back = [[gamma * c * sum(A[k][i] * B[o][k] * problem.v[o][s] for k in range(r) for o in range(p)) for s in range(n)] for i in range(d)]
    return y, decrease, sum(c * c * x * x for row in g for x in row), sum(x * x for row in gA for x in row), back


@pytest.mark.parametrize("optimizer", FIRST)
@pytest.mark.parametrize(("adapter", "steps"), [(GAUSSIAN, 1), (FROZEN, 1), (FROZEN, 4)], ids=["first step", "frozen", "B for four steps"])
def test_equal_to_the_loops_over_the_same_rows(optimizer, adapter, steps):
    task = _task(adapter, optimizer, steps=steps)
    run, gamma, rank = ChannelSampler(task).run, 0.3, 5
    A = np.random.default_rng(3).standard_normal((rank, 7))
    y, decrease, of_b, of_a, back = _loops(
        A, task.problem, task.setting.optimizer, gamma=gamma, lr=task.lr, steps=steps, a_trained=adapter is GAUSSIAN
    )
    z = (A @ run.data.Q)[None]
    scale = gamma * run.shrunk
    # Five contractions in a row, on numbers below 3 each. A sign of an entry of rounding's size could differ: none here is so small.
    bound = 1e2 * sum_of_products_bound(terms=rank * 7 * 2, factors=6, magnitude=1e2)
    assert bound < 1e-9
    np.testing.assert_allclose(scale * moves.terms(run, "update", z, gamma)[0].value[0], y, rtol=0, atol=bound)
    np.testing.assert_allclose(moves.terms(run, "loss_decrease", z, gamma)[0].value[0], decrease, rtol=0, atol=bound)
    squares = moves.terms(run, "gradients", z, gamma)
    np.testing.assert_allclose([run.shrunk**2 * squares[0].value[0], gamma**2 * squares[1].value[0]], [of_b, of_a], rtol=0, atol=bound)
    inside = scale * moves.terms(run, "input_gradient", z, gamma)[0].value[0]
    np.testing.assert_allclose(inside, run.data.Q.T @ back, rtol=0, atol=bound)


@pytest.mark.parametrize("kind", ["factor dropped", "sign", "rate of B", "decay of A"])
def test_the_loops_catch_a_wrong_channel(monkeypatch, kind):
    right, optimizer = moves.Run.b, "adamw:weight_decay=3,lr_ratio=4"
    task = _task(optimizer=optimizer)
    gamma = 0.3
    A = np.random.default_rng(3).standard_normal((5, 7))
    y = _loops(A, task.problem, as_optimizer(optimizer), gamma=gamma, lr=task.lr, steps=1, a_trained=True)[0]
    if kind == "decay of A":
        monkeypatch.setattr(moves.Run, "shrunk", 1.0)
    else:
        wrong = {"factor dropped": lambda b: b / 2, "sign": lambda b: -b, "rate of B": lambda b: b / 4}[kind]
        monkeypatch.setattr(moves.Run, "b", lambda self, g: wrong(right(self, g)))
    run = ChannelSampler(task).run
    shown = gamma * run.shrunk * moves.terms(run, "update", (A @ run.data.Q)[None], gamma)[0].value[0]
    assert np.abs(shown - y).max() > 0.05 * np.abs(y).max()


CLAIMS = [
    ("update", "rms"),
    ("update", "projection"),
    ("loss_decrease", "rms"),
    ("gradient_norm", "rms"),
    ("gradient:A", "rms"),
    ("input_gradient", "rms"),
    ("input_gradient", "log"),
]


# Steps of a size that depends on the gradient: pure signs make some claims discrete, and rounding would part their equal values.
RUNS = [(GAUSSIAN, "adamw:weight_decay=3,eps=0.1", 1), (UNIFORM, "adagrad:eps=0.1", 1), (FROZEN, "adam:eps=0.1", 3)]


@pytest.mark.statistical
@pytest.mark.parametrize(("quantity", "statistic"), CLAIMS)
@pytest.mark.parametrize(("adapter", "optimizer", "steps"), RUNS, ids=["gaussian", "uniform", "frozen"])
def test_in_law_equal_to_the_dense_engine(adapter, optimizer, steps, quantity, statistic):
    if quantity == "gradient:A" and adapter is FROZEN:
        quantity = "gradient:B"
    task = _task(adapter, optimizer, quantity, statistic, steps)
    dense, mine = (sampler_for(task, engine).sample(6, "law", 2000).values for engine in ("dense", "channels"))
    assert stats.ks_2samp(mine, dense).pvalue > RATE
    assert stats.ks_2samp(sampler_for(task, "channels").nested((3, 6, 11), "law", 2000)[1].values, dense).pvalue > RATE


@pytest.mark.statistical
@pytest.mark.parametrize("quantity", ["update", "loss_decrease", "gradient_norm"])
def test_the_channels_agree_with_the_gram_engine_where_both_speak(quantity):
    task = _task(optimizer="sgd", quantity=quantity, statistic="frobenius")
    for rank in (1, 4, 100):
        one, other = (sampler_for(task, engine).sample(rank, "law", 3000).values for engine in ("gram", "channels"))
        assert stats.ks_2samp(one, other).pvalue > RATE


@pytest.mark.parametrize("optimizer", ["adamw", "signsgd", "sgd", "adam:eps=0"])
def test_no_number_depends_on_the_chunk_the_workers_or_the_other_ranks(optimizer):
    ranks = (1, 4, 37, 1024, 1500, 2600)
    wide, narrow = (ChannelSampler(_task(optimizer=optimizer, budget=Budget(bytes=b))) for b in (10**8, 8 * 40 * CHANNELS))
    together, apart = wide.nested(ranks, "same", 20), narrow.nested(ranks, "same", 20)
    # Sums of 2,600 channels and three samples in another order, cancelling by no more than their number.
    rounding = 2600 * sum_of_products_bound(terms=2600, factors=6, magnitude=1.0)
    for one, other in zip(together, apart, strict=True):
        np.testing.assert_allclose(other.values, one.values, rtol=rounding)
        alone = wide.nested((one.rank,), "same", 20)[0]
        np.testing.assert_array_equal(alone.values, one.values)
        # At the edge of a product a row is summed in another order than inside it.
        np.testing.assert_allclose(wide.nested((one.rank,), "same", 9)[0].values, one.values[:9], rtol=rounding)
    for rank in (3, 1500):
        np.testing.assert_allclose(narrow.sample(rank, "same", 20).values, wide.sample(rank, "same", 20).values, rtol=1e-9)


def test_a_shared_sum_is_that_of_each_rank():
    task = _task(optimizer="signsgd")
    shared = ChannelSampler(task).nested((4, 10, 40), "shared", 8)
    unshared = ChannelSampler(task)
    degree, moves.degree = moves.degree, lambda optimizer, steps: None
    try:
        found = unshared.nested((4, 10, 40), "shared", 8)
    finally:
        moves.degree = degree
    for one, other in zip(shared, found, strict=True):
        np.testing.assert_allclose(one.values, other.values, rtol=1e-12)


def test_blocks_cover_every_channel_once_and_end_at_powers_of_two():
    found = list(blocks(5000))
    assert [b.start for b in found[1:]] == [b.stop for b in found[:-1]] and found[0].start == 0 and found[-1].stop >= 5000
    assert {2**k for k in range(2, 13)} <= {b.stop for b in found}
    assert max(b.stop - b.start for b in found) == CHANNELS


def test_rows_of_another_law_are_drawn_whole_and_their_gram_matrix_is_theirs():
    rows = Rows(Uniform(1), np.linalg.qr(np.random.default_rng(0).standard_normal((6, 2)))[0])
    key = lambda number: np.random.default_rng(number)  # noqa: E731
    whole = rows.gram(1500, 3, stream=key, chunk=3)
    np.testing.assert_allclose(rows.gram(1500, 3, stream=key, chunk=1), whole, rtol=1e-12)
    drawn = np.concatenate([key(b.number).uniform(-1, 1, (3, min(b.stop, 1500) - b.start, 6)) for b in blocks(1500)], axis=1)
    expected = [sum(np.outer(rows.Q.T @ a, rows.Q.T @ a) for a in draw) for draw in drawn]
    np.testing.assert_allclose(whole, expected, rtol=1500 * sum_of_products_bound(terms=1500 * 12, factors=4, magnitude=1.0))


def test_memory_does_not_grow_with_rank():
    small = Budget(bytes=4_000_000)
    assert math.isfinite(sampler_for(_task(UNIFORM, budget=small, d_in=40), "channels").sample(2**15, "big", 2).values.sum())
    with pytest.raises(BudgetError, match="bytes"):
        sampler_for(_task(budget=Budget(bytes=1000)), "channels").sample(2**15, "big", 2)


@pytest.mark.parametrize(
    ("adapter", "optimizer", "steps", "reason"),
    [
        (GAUSSIAN, "adamw", 2, "from step 2 on"),
        (GAUSSIAN, "adam:weight_decay=0.1", 1, "moves the entries of A"),
        (GAUSSIAN, "muon", 1, "whole matrices"),
        (GAUSSIAN, "adamw:clip=1", 1, "ties the rank channels"),
        (GAUSSIAN.with_init(A=Orthonormal(1)), "adamw", 1, "not independent"),
    ],
)
def test_why_the_engine_is_silent(adapter, optimizer, steps, reason):
    task = _task(adapter, optimizer, steps=steps)
    assert reason in silent_engines(task.setting)["channels"]
    assert sampler_for(task).name == "dense"
    with pytest.raises(InputError, match="cannot speak"):
        sampler_for(task, "channels")


def test_the_epsilon_regime_is_seen():
    seen = sampler_for(_task(optimizer="adamw"), "channels").sample(16, "typical", 40)
    dense = sampler_for(_task(optimizer="adamw"), "dense").sample(16, "typical", 40)
    assert 0.1 < seen.typical / dense.typical < 10
