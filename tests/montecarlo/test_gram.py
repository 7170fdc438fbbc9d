"""The Gram engine against plain loops over A and B, in law against the dense engine, and mutants that both catch."""

import math

import numpy as np
import pytest
from scipy import stats

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.claims import setting
from rsverify.definitions.laws import Constant, Gaussian, KaimingUniform, Orthonormal, Uniform, Zero, frozen
from rsverify.definitions.optimizers import as_optimizer
from rsverify.errors import BudgetError, InputError
from rsverify.montecarlo.budget import Budget
from rsverify.montecarlo.engines import Task, sampler_for, silent_engines
from rsverify.montecarlo.gram import spans
from rsverify.montecarlo.problem import Problem, make_problem
from rsverify.statistics.intervals import mean_interval

GAUSSIAN = Adapter("lora-gaussian", "o r, r i -> o i", B=Zero(), A=Gaussian("1/sqrt(i)"))


def loops(A, X, signal, *, p, gamma, lr, steps, decay=0.0, mu=0.0, ratio=1.0, clip=0.0, normalise=False, trained=(True, True)):
    """LoRA trained entry by entry on lists; returns B, A and a function of the data to the outputs."""
    r, d, n = len(A), len(A[0]), len(X[0])
    A, B = [list(map(float, row)) for row in A], [[0.0] * r for _ in range(p)]
    mA, mB = [[0.0] * d for _ in range(r)], [[0.0] * r for _ in range(p)]

    def outputs(X):
        columns = range(len(X[0]))
        hidden = [[sum(A[k][i] * X[i][s] for i in range(d)) for s in columns] for k in range(r)]
        return hidden, [[gamma * sum(B[o][k] * hidden[k][s] for k in range(r)) for s in columns] for o in range(p)]

    for t in range(1, steps + 1):
        hidden, y = outputs(X)
        V = signal(t, y)
        gB = [[gamma * sum(V[o][s] * hidden[k][s] for s in range(n)) for k in range(r)] for o in range(p)]
        back = [[sum(B[o][k] * V[o][s] for o in range(p)) for s in range(n)] for k in range(r)]
        gA = [[gamma * sum(back[k][s] * X[i][s] for s in range(n)) for i in range(d)] for k in range(r)]
        moving = (gB if trained[0] else []) + (gA if trained[1] else [])
        norm = math.sqrt(math.fsum(g * g for row in moving for g in row))
        scale = min(1.0, clip / norm) if clip and norm else 1.0
        if normalise:
            scale = 1 / norm if norm else 0.0
        for W, G, m, rate in ((B, gB, mB, lr * ratio * trained[0]), (A, gA, mA, lr * trained[1])):
            for W_row, G_row, m_row in zip(W, G, m, strict=True):
                for j in range(len(W_row)):
                    m_row[j] = mu * m_row[j] + scale * G_row[j] + decay * W_row[j]
                    W_row[j] -= rate * m_row[j]
    return B, A, lambda X: outputs(X)[1]


def _case(number):
    """A random configuration: sizes, data (with dependent columns), loss, optimizer, which factors move."""
    rng = np.random.default_rng(number)
    d, r, p, n = (int(rng.integers(1, top)) for top in (13, 11, 6, 7))
    X = rng.standard_normal((d, n))
    if number % 3 == 0:
        X[:, -1] = -2.0 * X[:, 0]
    steps = int(rng.integers(1, 9))
    kind = number % 4
    if kind == 0:
        loss = spans.Linear(rng.standard_normal((p, n)))
    elif kind == 1:  # a batch at each step: the other samples have no signal
        loss = spans.Linear(rng.standard_normal((steps, p, n)) * (rng.random((steps, 1, n)) < 0.6))
    else:
        batches = tuple(tuple(int(i) for i in rng.permutation(n)[: int(rng.integers(1, n + 1))]) for _ in range(kind - 2 + 1))
        loss = spans.SquaredError(rng.standard_normal((p, n)), batches if kind == 3 else ())
    names = ["sgd", "momentum", "sgd:weight_decay=0.1", "momentum:weight_decay=0.05,momentum=0.5", "sgd:lr_ratio=3", "sgd:clip=0.4",
             "normalized-sgd", "momentum:clip=1,lr_ratio=2"]  # fmt: skip
    optimizer = as_optimizer(names[number % len(names)])
    trained = (True, number % 5 > 0)
    return X, rng.standard_normal((r, d)), rng.standard_normal((d, 2)), loss, optimizer, steps, trained, p


def _signal(loss):
    if isinstance(loss, spans.Linear):
        return lambda t, y: loss.signal(t, None).tolist()

    def squared(t, y):
        n = len(y[0])
        batch = loss.batches[(t - 1) % len(loss.batches)] if loss.batches else range(n)
        return [[(y[o][s] - loss.targets[o][s]) / len(batch) if s in batch else 0.0 for s in range(n)] for o in range(len(y))]

    return squared


def _both(number, gamma=0.7, lr=0.05, train=spans.train):
    """Outputs on samples and two probes: of the Gram engine and of the loops, from the same A."""
    X, A, probes, loss, optimizer, steps, trained, p = _case(number)
    data = spans.span(X, probes)
    AQ = A @ data.Q
    W = (AQ.T @ AQ)[None]
    state = train(data.R, loss, optimizer, gamma=gamma, lr=lr, steps=steps, W=W, trained=trained)
    mine = spans.outputs(state, W, np.concatenate([data.R, data.R_probe], axis=1), gamma)[0]
    o = optimizer
    B, A_after, y = loops(
        A, X.tolist(), _signal(loss), p=p, gamma=gamma, lr=lr, steps=steps, decay=o.option("weight_decay"),
        mu=o.option("momentum") if o.name == "momentum" else 0.0, ratio=o.option("lr_ratio"), clip=o.option("clip"),
        normalise=o.name == "normalized-sgd", trained=trained,
    )  # fmt: skip
    theirs = np.array(y(np.concatenate([X, probes], axis=1).tolist()))
    return mine, theirs, (state, data, AQ, np.array(B), np.array(A_after), A)


def test_pathwise_equal_to_the_materialised_run_in_200_cases():
    worst = 0.0
    for number in range(200):
        mine, theirs, (state, data, AQ, B, A_after, A) = _both(number)
        for one, other in [
            (mine, theirs),
            (state.P @ AQ.T, B),
            (AQ @ state.M @ data.Q.T + state.c * (A - AQ @ data.Q.T), A_after),
        ]:
            scale = np.linalg.norm(other)
            worst = max(worst, float(np.linalg.norm(np.squeeze(one) - np.squeeze(other)) / scale) if scale else 0.0)
    assert worst <= 1e-12


@pytest.mark.parametrize("kind", ["sign of B's step", "gamma dropped", "M not fed back", "momentum forgets decay", "factor transposed"])
def test_the_loops_catch_a_wrong_recursion(monkeypatch, kind):
    right = spans.gradients

    def mutant(state, R, V, gamma):
        gP, gM = right(state, R, V, gamma)
        if kind == "sign of B's step":
            return -gP, gM
        if kind == "gamma dropped":
            return gP / gamma, gM / gamma
        if kind == "M not fed back":
            return gamma * V @ R.T, gM
        if kind == "factor transposed":
            return gP, np.swapaxes(gM, -1, -2)
        return gP, gM

    monkeypatch.setattr(spans, "gradients", mutant)
    if kind == "momentum forgets decay":
        step = spans._step
        monkeypatch.setattr(spans, "_step", lambda state, gP, gM, **k: step(state, gP, gM, **{**k, "decay": 0.0}))
    errors = []
    for number in range(40):
        mine, theirs, _ = _both(number)
        errors.append(np.abs(mine - theirs).max())
    assert max(errors) > 1e-3


def _task(
    quantity="update", statistic="rms", optimizer="sgd", steps=2, probe="cosine:0.5", budget=None, problem=None, adapter=GAUSSIAN, **more
):
    problem = make_problem(0, d_in=6, d_out=5, cosine=0.5) if problem is None else problem
    chosen = setting(adapter, "alpha/sqrt(r)", optimizer=optimizer, quantity=quantity, statistic=statistic, steps=steps, probe=probe)
    return Task(chosen, problem, 20.0, more.get("lr", 0.02), more.get("seed", 0), budget or Budget())


CLAIMS = [
    ("update", "rms", "sgd", 1), ("update", "projection", "momentum:weight_decay=0.1", 3), ("output", "log", "sgd:clip=0.5", 2),
    ("loss_decrease", "rms", "normalized-sgd", 2), ("gradient_norm", "rms", "sgd", 0), ("gradient:A", "rms", "sgd:lr_ratio=4", 2),
    ("gradient:B", "frobenius", "momentum", 2), ("input_gradient", "rms", "sgd:weight_decay=1", 2),
    ("input_gradient", "projection", "sgd", 2),
]  # fmt: skip
RATE, DRAWS = 1e-7, 3000  # of false failure of each comparison in law, some 120 of them


@pytest.mark.statistical
@pytest.mark.parametrize(("quantity", "statistic", "optimizer", "steps"), CLAIMS)
def test_in_law_equal_to_the_dense_engine_below_at_and_above_the_span(quantity, statistic, optimizer, steps):
    task = _task(quantity, statistic, optimizer, steps)
    for rank in (1, 2, 7):  # the span of a sample and a probe has two dimensions
        dense = sampler_for(task, "dense").sample(rank, "law", DRAWS).values
        assert stats.ks_2samp(sampler_for(task, "gram").sample(rank, "law", DRAWS).values, dense).pvalue > RATE
        nested = sampler_for(task, "gram").nested((rank, 3 * rank), "law", DRAWS)
        assert stats.ks_2samp(nested[0].values, dense).pvalue > RATE


@pytest.mark.statistical
@pytest.mark.parametrize(("quantity", "statistic", "optimizer", "steps"), [*CLAIMS, ("update", "rms", "sgd", 3)])
def test_several_samples_in_law_equal_to_the_dense_engine(quantity, statistic, optimizer, steps):
    task = _task(quantity, statistic, optimizer, steps, problem=make_problem(1, d_in=7, d_out=3, cosine=0.5, samples=2))
    for rank in (2, 4, 5):  # two samples and their probes span four dimensions
        dense, mine = (sampler_for(task, engine).sample(rank, "law", 2000).values for engine in ("dense", "gram"))
        assert stats.ks_2samp(mine, dense).pvalue > RATE


@pytest.mark.statistical
@pytest.mark.parametrize("law", [KaimingUniform("i"), Orthonormal(2), Uniform("1/sqrt(r)"), Constant(0.3)], ids=lambda law: law.text())
def test_other_laws_are_materialised(law):
    adapter = GAUSSIAN.with_init(A=law)
    for quantity, optimizer in (("update", "momentum"), ("gradient_norm", "sgd:clip=1")):
        task = _task(quantity, optimizer=optimizer, adapter=adapter)
        for rank in (1, 6, 11):
            dense, mine = (sampler_for(task, engine).sample(rank, "law", 2000) for engine in ("dense", "gram"))
            # No chance is left where A is constant, or orthonormal in all of the input: equal, to some hundred roundings.
            if np.ptp(dense.values) < 1e-12 * dense.values[0]:
                np.testing.assert_allclose(mine.values, dense.values, rtol=1e-12)
                continue
            assert stats.ks_2samp(mine.values, dense.values).pvalue > RATE
            if law.independent:
                nested = sampler_for(task, "gram").nested((rank, 40), "law", 2000)[0].values
                assert stats.ks_2samp(nested, dense.values).pvalue > RATE
    with pytest.raises(InputError, match="only for Gaussian"):
        sampler_for(_task("input_gradient", adapter=adapter), "gram")
    assert sampler_for(task).name == "gram, A materialised" and sampler_for(task).second_moment(4) is None


def test_materialised_rows_are_the_same_in_any_chunk_and_nested_for_any_ranks():
    adapter = GAUSSIAN.with_init(A=KaimingUniform("i"))
    wide, narrow = (sampler_for(_task(adapter=adapter, budget=Budget(bytes=b)), "gram") for b in (10**8, 10**6))
    for rank in (3, 1500):
        np.testing.assert_allclose(narrow.sample(rank, "same", 30).values, wide.sample(rank, "same", 30).values, rtol=1e-12)
        alone = wide.nested((rank,), "same", 30)[0].values
        np.testing.assert_array_equal(wide.nested((1, rank, 2000), "same", 30)[1].values, alone)


@pytest.mark.statistical
def test_the_law_catches_what_the_path_cannot(monkeypatch):
    task = _task("input_gradient")
    dense = sampler_for(task, "dense").sample(3, "law", DRAWS).values
    from rsverify.montecarlo.gram import sampler as gram_sampler

    monkeypatch.setattr(gram_sampler, "off_span_draws", lambda rng, draws, outside, samples: np.zeros((draws, samples)))
    assert stats.ks_2samp(sampler_for(task, "gram").sample(3, "law", DRAWS).values, dense).pvalue < RATE


@pytest.mark.statistical
@pytest.mark.parametrize("steps", [1, 2, 8])
@pytest.mark.parametrize("rank", [1, 3, 64, 2**40])
def test_the_exact_second_moment_is_met(steps, rank):
    sampler = sampler_for(_task(steps=steps, optimizer="momentum:weight_decay=0.1"), "gram")
    values = sampler.sample(rank, "moment", 4000).values
    # Within 6 standard errors, to which the mean's own skewness adds: rate below 1e-6 for ranks where it is small.
    assert abs(values.mean() - sampler.second_moment(rank)) < 6 * values.std() / math.sqrt(len(values))


def test_any_rank_any_chunk_any_workers_the_same_numbers():
    wide = sampler_for(_task("input_gradient", optimizer="sgd:clip=1"), "gram")
    narrow = sampler_for(_task("input_gradient", optimizer="sgd:clip=1", budget=Budget(bytes=2000)), "gram")
    for rank in (1, 2, 64):
        values = wide.sample(rank, "same", 500).values
        # The states of a chunk are products of small matrices, draw by draw: rounding at most differs by the order of their sums.
        np.testing.assert_allclose(narrow.sample(rank, "same", 500).values, values, rtol=1e-13)
        np.testing.assert_array_equal(wide.sample(rank, "same", 200).values, values[:200])
    alone = wide.nested((37,), "same", 50)[0].values
    np.testing.assert_array_equal(wide.nested((2, 37, 2**40), "same", 50)[1].values, alone)


def test_paired_rules_share_their_draws():
    one = setting(GAUSSIAN, "alpha/r", quantity="update")
    two = setting(GAUSSIAN, "alpha/sqrt(r)", quantity="update")
    problem = make_problem(0, d_in=6, d_out=5, cosine=1.0)
    a, b = (sampler_for(Task(s, problem, 20.0, 0.1, 0, Budget())).nested((4, 64), "pair", 30) for s in (one, two))
    for first, second in zip(a, b, strict=True):
        # One step's update is gamma**2 times the same form: the draws cancel in the ratio.
        np.testing.assert_allclose(second.values / first.values, float(first.rank) ** 2, rtol=1e-12)


def test_overflow_is_reported_with_its_step():
    sampler = sampler_for(_task(lr=1e40, steps=20), "gram")
    found = sampler.sample(2**40, "overflow", 40)
    assert found.rank == 2**40 and 2 <= found.diverged < 20
    assert sampler_for(_task(lr=1e40, steps=found.diverged - 1), "gram").sample(2**40, "overflow", 40).diverged is None
    dense = sampler_for(_task(lr=1e40, steps=20), "dense").sample(4, "overflow", 40)
    assert 2 <= dense.diverged < 20


def test_zero_at_init_and_one_rank_smaller_than_the_batch():
    found = sampler_for(_task("output", steps=0), "gram").sample(8, "zero", 40)
    assert found.vanishes and not found.values.any()
    rng = np.random.default_rng(0)
    many = Problem(rng.standard_normal((9, 6)), rng.standard_normal((9, 6)), rng.standard_normal((4, 6)))
    assert (sampler_for(_task(problem=many), "gram").sample(2, "small", 40).values > 0).all()


def test_refusals():
    with pytest.raises(InputError, match="draws=0"):
        sampler_for(_task(), "gram").sample(4, "none", 0)
    with pytest.raises(InputError, match=r"draws=0"):
        sampler_for(_task(), "dense").sample(4, "none", 0)
    with pytest.raises(BudgetError, match="bytes"):
        sampler_for(_task(budget=Budget(bytes=8)), "gram").sample(4, "small", 40)
    with pytest.raises(BudgetError, match=r"one draw at rank 1099511627776 computes with .* cost does not grow with rank"):
        sampler_for(_task(adapter=GAUSSIAN.with_init(A=KaimingUniform("i")))).sample(2**40, "huge", 1)
    with pytest.raises(InputError, match="leave the span"):
        sampler_for(_task(optimizer="adamw"), "gram")
    with pytest.raises(InputError, match="one column per sample"):
        spans.span(np.ones(3))
    with pytest.raises(InputError, match="step 3 has no signal"):
        spans.Linear(np.ones((2, 3, 4))).signal(3, None)
    with pytest.raises(InputError, match="none twice"):
        spans.SquaredError(np.ones((2, 3)), ((0, 0),))
    with pytest.raises(InputError, match="no weight decay"):
        spans.train(np.eye(2), spans.Linear(np.ones((2, 2))), as_optimizer("normalized-sgd:weight_decay=1"), gamma=1, lr=1, steps=1)


@pytest.mark.parametrize(
    ("adapter", "reason"),
    [
        (GAUSSIAN.with_init(B=Gaussian(1)), "not zero at init"),
        (GAUSSIAN.with_init(B=frozen(Zero())), "frozen at zero"),
        (Adapter("vera", "o, o r, r i -> o i", b=Zero(), B=Gaussian(1), A=Gaussian(1)), "two factors"),
    ],
)
def test_why_the_engine_is_silent(adapter, reason):
    assert reason in silent_engines(setting(adapter, "alpha/r"))["gram"]
    assert sampler_for(_task(adapter=adapter)).name == "dense"


@pytest.mark.statistical
@pytest.mark.parametrize("law", [KaimingUniform("i"), Constant(1)])
@pytest.mark.parametrize(("optimizer", "steps", "samples"), [("sgd", 1, 1), ("momentum:weight_decay=0.1", 2, 3)])
def test_the_finite_rank_law_is_known_of_every_symmetric_law(law, optimizer, steps, samples):
    """Three channels of four inputs: the fourth cumulant of uniform entries moves the mean by far more than the interval is wide."""
    asked = {"optimizer": optimizer, "steps": steps, "probe": "cosine:0.5"}
    problem = make_problem(2, d_in=4, d_out=3, cosine=0.5, samples=samples)

    def sampler(law):
        chosen = setting(Adapter("lora-law", "o r, r i -> o i", B=Zero(), A=law), "alpha/r", **asked)
        return sampler_for(Task(chosen, problem, 3.0, 0.05, 0, Budget()), "gram")

    known = sampler(law).second_moment(3)
    if not isinstance(law, KaimingUniform):
        assert known is None
        return
    _, (low, high) = mean_interval(sampler(law).sample(3, "law", 60_000).values, 1 - 1e-6)
    assert low < known < high < sampler(Gaussian("1/sqrt(3*i)")).second_moment(3)
