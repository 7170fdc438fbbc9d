"""The dense engine against plain loops, and its updates against scalar formulas."""

import numpy as np
import pytest

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.laws import Constant, Gaussian, KaimingUniform, Uniform, Zero, frozen
from rsverify.definitions.optimizers import as_optimizer, optimizers, scalar_reference
from rsverify.errors import InputError
from rsverify.montecarlo.dense.drawing import draw_block
from rsverify.montecarlo.dense.engine import Engine
from rsverify.montecarlo.dense.naive import NaiveAdapter
from rsverify.montecarlo.problem import Problem, make_problem
from rsverify.montecarlo.updates import apply_step
from rsverify.statistics.rounding import sum_of_products_bound

lora = Adapter("lora", "o r, r i -> o i", B=Zero(), A=KaimingUniform(fan_in="i"))
ADAPTERS = {
    "lora": lora,
    "lora-b": lora.with_init(B=Gaussian(0.3)),
    "loha": Adapter("loha", "o r, r i, o s, s i -> o i", rank_axes=("r", "s"), B=Gaussian(0.5), A=Uniform(1), D=Zero(), C=Gaussian(1)),
    "vera": Adapter(
        "vera", "o, o r, r, r i -> o i", b=Gaussian(0.5), B=frozen(Gaussian("1/sqrt(r)")), d=Constant(0.1), A=frozen(KaimingUniform("i"))
    ),
    "lokr": Adapter(
        "lokr", "a b, p r, r q -> (a p) (b q)", sizes={"a": "2", "p": "d_out/2", "b": "3", "q": "d_in/3"}, C=Gaussian(1), B=Gaussian(1),
        A=KaimingUniform("q"),
    ),
    "alone": Adapter("alone", "o r t, r u i -> o i", sizes={"t": "2", "u": "2"}, B=Gaussian(0.3), A=KaimingUniform("i")),
    "alone-lora": Adapter("alone-lora", "o r t, r i -> o i", sizes={"t": "2"}, B=Zero(), A=KaimingUniform("i")),
    "xs": Adapter("xs", "o r, r s, s i -> o i", rank_axes=("r", "s"), B=frozen(Gaussian(1)), R=Zero(), A=frozen(Gaussian(1))),
}  # fmt: skip
D_IN, D_OUT, RANK, GAMMA, DRAWS = 6, 4, 3, 0.7, 2


def _drawn(adapter):
    (chunk,) = draw_block(adapter, seed=1, phase="test", rank=RANK, gamma=GAMMA, d_in=D_IN, d_out=D_OUT, number=0, draws=DRAWS, chunk=DRAWS)
    return chunk[1]


def _dense(factors, adapter):
    shapes = adapter.shapes(RANK, D_IN, D_OUT)
    return {name: np.zeros((DRAWS, *shapes[name])) if w is None else w for name, w in factors.items()}


@pytest.mark.parametrize("name", ADAPTERS)
@pytest.mark.parametrize("steps", [0, 1, 2])
def test_dense_equals_the_loops_within_rounding(name, steps):
    adapter, problem, lr = ADAPTERS[name], make_problem(5, d_in=D_IN, d_out=D_OUT, cosine=0.4), 0.05
    engine = Engine(adapter, RANK, GAMMA, D_IN, D_OUT)
    naive = NaiveAdapter(adapter.expression, adapter.axis_sizes(RANK, D_IN, D_OUT), list(adapter.laws), GAMMA)
    start = _drawn(adapter)
    after = _dense(engine.train(start, problem, as_optimizer("sgd"), steps=steps, lr=lr, draws=DRAWS), adapter)
    output, back = engine.output(after, problem.x_probe), engine.input_gradient(after, problem.v)
    gradients = engine.gradients(after, problem, DRAWS)
    for n in range(DRAWS):
        one = {key: w[n] for key, w in _dense(start, adapter).items()}
        moved = naive.train_sgd(one, adapter.trainable, problem.x, problem.v, steps=steps, lr=lr)
        magnitude = max(naive.output(moved, problem.x_probe, D_OUT, absolute=True)) + 1.0
        # Each step feeds one evaluation's rounding into the next: the bound grows with the number of evaluations.
        bound = (
            10 ** (steps > 1)
            * (2 * steps + 1)
            * sum_of_products_bound(
                terms=naive.terms_per_entry(), factors=len(adapter.laws) + 3, magnitude=magnitude * (1 + np.abs(problem.x).sum()) ** 2
            )
        )
        assert bound < 1e-9
        np.testing.assert_allclose(output[n], naive.output(moved, problem.x_probe, D_OUT), rtol=0, atol=bound)
        np.testing.assert_allclose(back[n], naive.input_gradient(moved, problem.v, D_IN), rtol=0, atol=bound)
        for key in adapter.trainable:
            loops = naive.gradient(moved, key, problem.x, problem.v)
            shown = 0.0 if gradients[key] is None else gradients[key][n]
            expected = np.zeros(adapter.shapes(RANK, D_IN, D_OUT)[key])
            for place, value in loops.items():
                expected[place] = value
            np.testing.assert_allclose(np.broadcast_to(shown, expected.shape), expected, rtol=0, atol=bound)


@pytest.mark.parametrize("name", ADAPTERS)
def test_several_samples_are_each_a_sample_and_their_gradients_a_sum(name):
    adapter, problem = ADAPTERS[name], make_problem(5, d_in=D_IN, d_out=D_OUT, cosine=0.4, samples=3)
    engine, factors = Engine(adapter, RANK, GAMMA, D_IN, D_OUT), _drawn(adapter)
    singles = [Problem(problem.x[:, i], problem.x_probe[:, i], problem.v[:, i]) for i in range(3)]
    np.testing.assert_array_equal(singles[0].x, make_problem(5, d_in=D_IN, d_out=D_OUT, cosine=0.4).x)
    together = engine.gradients(factors, problem, DRAWS)
    apart = [engine.gradients(factors, one, DRAWS) for one in singles]
    magnitude = 1e3  # of sums of absolute products of numbers of size one, at most 6 * 4 * 9 of them
    bound = sum_of_products_bound(terms=3 * D_IN * D_OUT * RANK**2, factors=7, magnitude=magnitude)
    for key, gradient in together.items():
        if gradient is not None:
            np.testing.assert_allclose(gradient, sum(one[key] for one in apart), rtol=0, atol=bound)
    for which, data in ((Engine.output, "x_probe"), (Engine.input_gradient, "v")):
        seen = which(engine, factors, getattr(problem, data))
        if seen is not None:
            for i, one in enumerate(singles):
                np.testing.assert_allclose(seen[:, :, i], which(engine, factors, getattr(one, data)), rtol=0, atol=bound)


def test_the_loops_see_a_wrong_engine():
    adapter, problem = ADAPTERS["lora-b"], make_problem(5, d_in=D_IN, d_out=D_OUT, cosine=1.0)
    naive = NaiveAdapter(adapter.expression, adapter.axis_sizes(RANK, D_IN, D_OUT), list(adapter.laws), GAMMA)
    wrong = Engine(adapter, RANK, -GAMMA, D_IN, D_OUT)
    factors = _drawn(adapter)
    loops = naive.output({key: w[0] for key, w in factors.items()}, problem.x, D_OUT)
    assert np.abs(wrong.output(factors, problem.x)[0] - loops).max() > 1e-3


@pytest.mark.parametrize("name", [name for name, o in optimizers().items() if o.coordinatewise])
@pytest.mark.parametrize("decay", [0.0, 0.03])
def test_updates_follow_the_scalar_formula(name, decay):
    optimizer = optimizers()[name].with_options(weight_decay=decay)
    path = [0.3, -0.2, 0.0, 0.5, 0.1]
    expected = scalar_reference(optimizer, path, lr=0.1, start=0.4)
    state, w = {}, {"A": np.full((2, 3), 0.4)}
    for t, g in enumerate(path, start=1):
        w = apply_step(optimizer, w, {"A": np.full((2, 3), g)}, state, t=t, lr=0.1, ups=("B",))
        # Some ten roundings per step on numbers of size one, carried through a division.
        np.testing.assert_allclose(w["A"], expected[t - 1], rtol=1e-14 * 10 * t)


def test_lr_ratio_moves_only_b_and_clip_bounds_the_norm():
    g = {"A": np.full((1, 2), 3.0), "B": np.full((1, 2), 4.0)}
    w = {"A": np.zeros((1, 2)), "B": np.zeros((1, 2))}
    moved = apply_step(as_optimizer("sgd:lr_ratio=16"), w, {k: v.copy() for k, v in g.items()}, {}, t=1, lr=0.1, ups=("B",))
    np.testing.assert_allclose(moved["B"] / moved["A"], 16 * 4 / 3)
    moved = apply_step(as_optimizer("sgd:clip=1"), w, {k: v.copy() for k, v in g.items()}, {}, t=1, lr=1.0, ups=("B",))
    assert sum((x**2).sum() for x in moved.values()) == pytest.approx(1.0)
    moved = apply_step(as_optimizer("normalized-sgd"), w, {k: v.copy() for k, v in g.items()}, {}, t=1, lr=0.5, ups=("B",))
    assert sum((x**2).sum() for x in moved.values()) == pytest.approx(0.25)


def test_muon_orthogonalises_full_and_rank_one_gradients():
    full = np.random.default_rng(3).standard_normal((2, 5, 3))
    step = apply_step(as_optimizer("muon"), {"A": None}, {"A": full}, {}, t=1, lr=1.0, ups=("B",))["A"]
    np.testing.assert_allclose(np.swapaxes(step, 1, 2) @ step, np.broadcast_to(np.eye(3), (2, 3, 3)), atol=1e-10)
    one = np.outer([1.0, 2, 2, 0], [3.0, 0, 4])[None]
    step = apply_step(as_optimizer("muon"), {"A": None}, {"A": one}, {}, t=1, lr=1.0, ups=("B",))["A"]
    np.testing.assert_allclose(step, -one / 15, atol=1e-10)
    with pytest.raises(InputError, match="only a matrix"):
        apply_step(as_optimizer("muon"), {"b": None}, {"b": np.ones((2, 3))}, {}, t=1, lr=1.0, ups=("B",))


def test_adafactor_first_step_of_a_rank_one_gradient_is_its_sign():
    g = np.outer([1.0, -2.0], [3.0, 0.5, -1.0])[None]
    w = np.full((1, 2, 3), 2.0)
    step = apply_step(as_optimizer("adafactor"), {"A": w}, {"A": g.copy()}, {}, t=1, lr=1e-2, ups=("B",))["A"] - w
    np.testing.assert_allclose(step, -2.0 * 1e-2 * np.sign(g), rtol=1e-12)
