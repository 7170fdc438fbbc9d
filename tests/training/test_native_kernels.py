"""The kernels in C against what they stand for, written naively in float64: norms, the gated unit, the loss, attention, exp.

Bounds are multiples of the rounding of the kernel's type: as many roundings as a sum has terms, times the size of what is summed.
"""

from __future__ import annotations

import ctypes
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent))

from native_builds import EACH, kernels_of

from rsverify.definitions.optimizers import as_optimizer
from rsverify.training.model.compact import rotation_tables
from rsverify.training.model.transformer import rotate
from rsverify.training.native import build
from rsverify.training.native.adam import Stepping

DTYPES = {np.float32: torch.float32, np.float64: torch.float64}
NUMPY: dict[torch.dtype, type[np.floating[Any]]] = {torch.float32: np.float32, torch.float64: np.float64}

Array = NDArray[Any]


@dataclass(frozen=True)
class Kernels:
    """The compiled kernels of one type."""

    library: ctypes.CDLL
    dtype: type[np.floating[Any]]

    @property
    def eps(self) -> float:
        return float(np.finfo(self.dtype).eps)

    def __call__(self, name: str, *given: int | float | Array) -> None:
        """Call `rsv_name`; arrays go as pointers, ints as int64, floats as the kernel's type."""
        real = ctypes.c_float if self.dtype is np.float32 else ctypes.c_double
        passed: list[Any] = []
        for value in given:
            if isinstance(value, np.ndarray):
                assert value.flags.c_contiguous
                passed.append(ctypes.c_void_p(value.ctypes.data))
            else:
                passed.append(ctypes.c_int64(value) if isinstance(value, int) else real(value))
        getattr(self.library, f"rsv_{name}")(*passed)

    def size(self, name: str, *given: int) -> int:
        function = getattr(self.library, f"rsv_{name}")
        function.restype = ctypes.c_int64
        return int(function(*(ctypes.c_int64(value) for value in given)))

    def drawn(self, *shape: int, seed: int) -> Array:
        return np.random.default_rng(seed).standard_normal(shape).astype(self.dtype)

    def empty(self, *shape: int) -> Array:
        """NaN everywhere: what a kernel leaves unset shows."""
        return np.full(shape, np.nan, dtype=self.dtype)


@pytest.fixture(scope="module", params=EACH)
def kernels(request: pytest.FixtureRequest) -> Kernels:
    one, dtype = request.param
    return Kernels(kernels_of(dtype, one).library, NUMPY[dtype])


def within(got: Array, expected: Array, bound: float) -> None:
    """Largest difference against `bound` times the largest expected number."""
    assert got.shape == expected.shape
    size = np.abs(expected).max(initial=0.0)
    worst = np.abs(got - expected).max(initial=0.0)
    assert worst <= bound * size, f"off by {worst:.3g} of at most {size:.3g}, allowed {bound * size:.3g}"


def exp_arguments(dtype: type[np.floating[Any]]) -> Array:
    """Arguments whose exp is a normal number: even steps over the range, its ends, and many close to zero."""
    info = np.finfo(dtype)
    low, high = math.log(float(info.tiny)), math.log(float(info.max))
    even = np.linspace(low, high, 1 << 18).astype(dtype)
    low_end = even[0] if float(even[0]) >= low else np.nextafter(even[0], dtype(0))
    high_end = even[-1] if float(even[-1]) <= high else np.nextafter(even[-1], dtype(0))
    near = np.linspace(-1, 1, 1 << 16).astype(dtype)
    return np.concatenate([np.clip(even, low_end, high_end), near, dtype(1e-3) * near])


def test_exp_is_within_two_ulp_wherever_its_result_is_normal(kernels: Kernels) -> None:
    x = exp_arguments(kernels.dtype)
    got = kernels.empty(len(x))
    kernels("exp", len(x), x, got)
    wide = np.float64 if kernels.dtype is np.float32 else np.longdouble
    if np.finfo(wide).eps >= kernels.eps:
        pytest.skip("no wider type to measure double against")
    exact = np.exp(x.astype(wide))
    ulp = np.spacing(np.abs(exact.astype(kernels.dtype)))
    assert (np.abs(got - exact) / ulp).max() <= 2


def test_exp_at_the_ends(kernels: Kernels) -> None:
    x = np.zeros(16, dtype=kernels.dtype)
    info = np.finfo(kernels.dtype)
    low, high = math.log(float(info.tiny)), math.log(float(info.max))
    x[:9] = [np.nan, np.inf, -np.inf, high * (1 + 1e-6), low * (1 + 1e-6), 10 * high, -1e30, info.max, -info.max]
    got = kernels.empty(16)
    kernels("exp", 16, x, got)
    assert np.isnan(got[0])
    assert got[1:9].tolist() == [np.inf, 0, np.inf, 0, np.inf, 0, np.inf, 0]
    assert (got[9:] == 1).all()


ROWS = [(1, 1), (3, 7), (5, 16), (4, 37), (9, 64), (2, 129)]


@pytest.mark.parametrize(("rows", "d"), ROWS)
def test_norm_and_its_way_back(kernels: Kernels, rows: int, d: int) -> None:
    x, dh, w, old = (kernels.drawn(*shape, seed=seed) for seed, shape in enumerate([(rows, d), (rows, d), (d,), (rows, d)]))
    eps = float(kernels.dtype(1e-5))
    h, inverse = kernels.empty(rows, d), kernels.empty(rows)
    kernels("norm", rows, d, eps, x, w, h, inverse)
    X, W = torch.from_numpy(x).double().requires_grad_(), torch.from_numpy(w).double()
    scale = (X.square().mean(1, keepdim=True) + eps).rsqrt()
    H = X * scale * W
    H.backward(torch.from_numpy(dh).double())
    assert X.grad is not None
    bound = (d + 8) * kernels.eps
    within(inverse, scale.detach()[:, 0].numpy(), bound)
    within(h, H.detach().numpy(), bound)
    for add in (0, 1):
        dx = old.copy() if add else kernels.empty(rows, d)
        kernels("norm_back", rows, d, dh, x, inverse, w, dx, add)
        scale_of_terms = float((scale.detach() * W.abs().max() * np.abs(dh).max()).max()) * (1 + float(X.detach().abs().max()) ** 2)
        worst = np.abs(dx - (X.grad.numpy() + add * old)).max()
        assert worst <= bound * (scale_of_terms + add * np.abs(old).max())


@pytest.mark.parametrize("count", [1, 8, 15, 16, 37, 1000])
def test_gate_and_its_way_back(kernels: Kernels, count: int) -> None:
    g, u, da = (kernels.drawn(count, seed=seed) for seed in range(3))
    g *= 5
    out, dg, du = (kernels.empty(count) for _ in range(3))
    kernels("gate", count, g, u, out)
    kernels("gate_back", count, da, g, u, dg, du)
    G, U = (torch.from_numpy(z).double().requires_grad_() for z in (g, u))
    expected = torch.nn.functional.silu(G) * U
    expected.backward(torch.from_numpy(da).double())
    assert G.grad is not None and U.grad is not None
    for got, want in ((out, expected.detach()), (dg, G.grad), (du, U.grad)):
        within(got, want.numpy(), 12 * kernels.eps)
    shared = da.copy()
    kernels("gate_back", count, shared, g, u, shared, du)
    assert (shared == dg).all()


def test_gate_far_out(kernels: Kernels) -> None:
    g = np.array([-1e4, 1e4, 0, np.nan], dtype=kernels.dtype)
    one = np.ones_like(g)
    out, dg, du = (kernels.empty(4) for _ in range(3))
    kernels("gate", 4, g, one, out)
    kernels("gate_back", 4, one, g, one, dg, du)
    for got, want in ((out, [0, 1e4, 0, np.nan]), (dg, [0, 1, 0.5, np.nan]), (du, [0, 1e4, 0, np.nan])):
        np.testing.assert_array_equal(got, np.array(want, dtype=kernels.dtype))


@pytest.mark.parametrize(("copies", "sequences", "T", "vocabulary"), [(1, 1, 2, 3), (2, 3, 5, 37), (3, 2, 17, 64), (2, 1, 4, 300)])
def test_cross_entropy(kernels: Kernels, copies: int, sequences: int, T: int, vocabulary: int) -> None:
    logits = 3 * kernels.drawn(copies * sequences, T, vocabulary, seed=0)
    tokens = np.random.default_rng(1).integers(0, vocabulary, (copies * sequences, T))
    got, losses = logits.copy(), kernels.empty(copies)
    kernels("cross_entropy", copies, sequences, T, vocabulary, got, tokens, losses)
    Z = torch.from_numpy(logits).double().requires_grad_()
    each = torch.nn.functional.cross_entropy(
        Z[:, :-1].reshape(-1, vocabulary), torch.from_numpy(tokens)[:, 1:].reshape(-1), reduction="none"
    )
    means = each.view(copies, -1).mean(1)
    means.sum().backward()
    assert Z.grad is not None
    size = float(Z.detach().abs().max())
    within(losses, means.detach().numpy(), (vocabulary + 4 * size) * kernels.eps)
    within(got, Z.grad.numpy(), (vocabulary + 4 * size) * kernels.eps)
    assert (got[:, -1] == 0).all()


@pytest.mark.parametrize("vocabulary", [5, 37, 64, 100])
def test_the_greatest_logit_is_found_wherever_it_stands(kernels: Kernels, vocabulary: int) -> None:
    """One token a row so likely that exp holds no other maximum: its loss is zero, that of the token after it its distance."""
    far = 2 * math.log(float(np.finfo(kernels.dtype).max))
    logits = np.zeros((1, vocabulary + 1, vocabulary), dtype=kernels.dtype)
    logits[0, np.arange(vocabulary), np.arange(vocabulary)] = far
    for shift, expected in ((0, 0.0), (1, float(kernels.dtype(far)))):
        tokens = np.concatenate([[0], (np.arange(vocabulary) + shift) % vocabulary]).astype(np.int64)[None]
        got, losses = logits.copy(), kernels.empty(1)
        kernels("cross_entropy", 1, 1, vocabulary + 1, vocabulary, got, tokens, losses)
        assert abs(float(losses[0]) - expected) <= vocabulary * kernels.eps * expected  # a sum of as many losses
        assert np.isfinite(got).all()


def test_a_copy_that_diverged_leaves_the_losses_of_others(kernels: Kernels) -> None:
    logits = kernels.drawn(3, 5, 37, seed=0)
    tokens = np.random.default_rng(1).integers(0, 37, (3, 5))
    clean, losses = logits.copy(), kernels.empty(3)
    kernels("cross_entropy", 3, 1, 5, 37, clean, tokens, losses)
    logits[1, 2, 3] = np.nan
    found = kernels.empty(3)
    kernels("cross_entropy", 3, 1, 5, 37, logits, tokens, found)
    assert np.isnan(found[1]) and np.isnan(logits[1]).any()
    assert (found[[0, 2]] == losses[[0, 2]]).all()
    assert (logits[[0, 2]] == clean[[0, 2]]).all()


@dataclass
class Attended:
    """What the two kernels of attention gave."""

    out: Array
    dq: Array
    dk: Array
    dv: Array


@dataclass(frozen=True)
class Shape:
    """Shape of a call of attention."""

    sequences: int
    T: int
    heads: int
    kv: int
    width: int


SHAPES = [
    Shape(2, 1, 2, 1, 4),
    Shape(3, 37, 4, 2, 6),
    Shape(2, 64, 4, 2, 16),
    Shape(1, 65, 2, 2, 32),
    Shape(1, 512, 2, 1, 32),
    Shape(1, 80, 3, 1, 40),
    Shape(1, 20, 1, 1, 2),
]


def attend(kernels: Kernels, at: Shape, q: Array, k: Array, v: Array, signal: Array) -> Attended:
    sizes = (at.sequences, at.T, at.heads, at.kv, at.width)
    cos, sin = (z.numpy() for z in rotation_tables(at.T, at.width, 10000.0, torch.from_numpy(q).dtype))
    P = kernels.empty(kernels.size("attention_kept", at.sequences, at.T, at.heads))
    scratch = kernels.empty(kernels.size("attention_scratch", at.T, at.width) + 64)
    out, qr, kr = np.full_like(q, np.nan), np.full_like(q, np.nan), np.full_like(k, np.nan)
    kernels("attention", *sizes, cos, sin, q, k, v, qr, kr, P, out, scratch[:-64])
    assert np.isnan(scratch[-64:]).all(), "wrote past its scratch"
    scratch = kernels.empty(kernels.size("attention_back_scratch", at.T, at.width) + 64)
    dq, dk, dv = np.full_like(q, np.nan), np.full_like(k, np.nan), np.full_like(v, np.nan)
    kernels("attention_back", *sizes, cos, sin, signal, qr, kr, v, P, dq, dk, dv, scratch[:-64])
    assert np.isnan(scratch[-64:]).all(), "wrote past its scratch"
    return Attended(out, dq, dk, dv)


def naive(at: Shape, q: Array, k: Array, v: Array, signal: Array) -> Attended:
    """Softmax of masked scores in float64, its gradients by autograd."""
    Q, K, V = (torch.from_numpy(z).double().requires_grad_() for z in (q, k, v))
    qh, kh, vh = (z.view(at.sequences, at.T, -1, at.width).transpose(1, 2) for z in (Q, K, V))
    qh, kh = rotate(qh, 10000.0), rotate(kh, 10000.0)
    kh, vh = (z.repeat_interleave(at.heads // at.kv, 1) for z in (kh, vh))
    scores = (qh @ kh.mT) * at.width**-0.5
    P = torch.softmax(scores.masked_fill(torch.ones(at.T, at.T, dtype=torch.bool).triu(1), -torch.inf), -1)
    out = (P @ vh).transpose(1, 2).reshape(Q.shape)
    out.backward(torch.from_numpy(signal).double())
    assert Q.grad is not None and K.grad is not None and V.grad is not None
    return Attended(out.detach().numpy(), Q.grad.numpy(), K.grad.numpy(), V.grad.numpy())


def inputs(kernels: Kernels, at: Shape) -> tuple[Array, Array, Array, Array]:
    rows = at.sequences * at.T
    wide, narrow = at.heads * at.width, at.kv * at.width
    q, k, v, signal = (kernels.drawn(rows, columns, seed=seed) for seed, columns in enumerate((wide, narrow, narrow, wide)))
    return q, k, v, signal


@pytest.mark.parametrize("at", SHAPES, ids=str)
def test_attention_and_its_way_back(kernels: Kernels, at: Shape) -> None:
    given = inputs(kernels, at)
    got, expected = attend(kernels, at, *given), naive(at, *given)
    for name in ("out", "dq", "dk", "dv"):
        within(getattr(got, name), getattr(expected, name), (at.T + at.width + 8) * kernels.eps)


def test_large_scores_do_not_overflow(kernels: Kernels) -> None:
    """Scores whose differences exp could not hold, so that a maximum which passes over a key shows."""
    at, factor = Shape(1, 80, 2, 1, 8), 4 * math.log(float(np.finfo(kernels.dtype).max))
    q, k, v, signal = inputs(kernels, at)
    q *= factor
    got, expected = attend(kernels, at, q, k, v, signal), naive(at, q, k, v, signal)
    score = factor * float(np.abs(q / factor).max() * np.abs(k).max()) * at.width**0.5
    within(got.out, expected.out, (at.width + 4) * score * kernels.eps)


def test_a_sequence_that_diverged_leaves_others_exact(kernels: Kernels) -> None:
    at = Shape(3, 37, 4, 2, 16)
    q, k, v, signal = inputs(kernels, at)
    clean = attend(kernels, at, q, k, v, signal)
    q[at.T + 5, 3] = np.nan
    found = attend(kernels, at, q, k, v, signal)
    for name in ("out", "dq", "dk", "dv"):
        before, after = (getattr(z, name).reshape(3, at.T, -1) for z in (clean, found))
        assert np.isnan(after[1]).any()
        assert (before[[0, 2]] == after[[0, 2]]).all()


def test_later_tokens_do_not_reach_earlier_ones(kernels: Kernels) -> None:
    at = Shape(1, 70, 2, 1, 16)
    q, k, v, signal = inputs(kernels, at)
    before = attend(kernels, at, q, k, v, signal).out
    k[40:] *= 2
    v[40:] *= 2
    after = attend(kernels, at, q, k, v, signal).out
    assert (before[:40] == after[:40]).all()
    assert (before[40:] != after[40:]).any()


@dataclass
class Adapted:
    """One linear of one configuration with its buffers, NaN where a kernel leaves them unset; what none may touch is behind its scratch."""

    kernels: Kernels
    n: int
    d: int
    r: int
    merged: int
    adam: ctypes.Structure | None = None

    def __post_init__(self) -> None:
        n, d, r = self.n, self.d, self.r
        shapes = [(d, d), (n, d), (n, d), (r, d), (d, r)]
        self.W, self.X, self.V, self.A, self.B = (self.kernels.drawn(*shape, seed=seed) for seed, shape in enumerate(shapes))
        self.gamma = np.full(1, 0.5, dtype=self.kernels.dtype)
        empty = self.kernels.empty
        self.Y, self.dX, self.grad_A, self.grad_B = empty(n, d), empty(n, d), empty(r, d), empty(d, r)
        self.kept = empty(max(n, d), max(d, r))
        self.moments = [np.abs(self.kernels.drawn(*shape, seed=9 + k)) for k, shape in enumerate([(r, d), (r, d), (d, r), (d, r)])]
        self.rates = [np.full(1, rate, dtype=self.kernels.dtype) for rate in (0.01, 0.03)]
        self.squares = np.zeros((2, 1), dtype=self.kernels.dtype)
        self.scratch = empty(self.kernels.size("linear_scratch", n, d, d, r) + 4096)

    def part(self) -> build.Part:
        at = [z.ctypes.data for z in (self.gamma, self.kept)]
        found = build.Part(0, 1, self.r, self.merged, 0, *at, ctypes.addressof(self.adam) if self.adam else None)
        for k, (name, w, g) in enumerate((("A", self.A, self.grad_A), ("B", self.B, self.grad_B))):
            m, s = (z.ctypes.data for z in self.moments[2 * k : 2 * k + 2])
            gradient = None if self.adam else g.ctypes.data
            setattr(found, name, build.Factor(1, w.ctypes.data, gradient, m, s, self.rates[k].ctypes.data))
        return found

    def call(self, name: str, *given: Array | ctypes.c_int | None) -> None:
        passed = [ctypes.c_void_p(z.ctypes.data) if isinstance(z, np.ndarray) else z for z in given]
        getattr(self.kernels.library, f"rsv_{name}")(*(ctypes.c_int64(size) for size in (1, self.n, self.d, self.d)), *passed)
        assert np.isnan(self.scratch[-4096:]).all(), "wrote past its scratch"

    def there_and_back(self) -> None:
        parts = (ctypes.byref(self.part()), ctypes.c_int64(1))
        self.call("linear", self.W, self.X, None, self.Y, *parts, None, self.scratch)
        self.call("linear_back", self.W, self.X, self.V, self.dX, ctypes.c_int(0), *parts, *self.squares, self.scratch)

    def first(self) -> None:
        source = np.zeros(1, dtype=np.int64)
        given = (ctypes.byref(self.part()), ctypes.c_int64(1))
        self.call("linear_first", self.X, self.V, source, *given, *self.squares, self.scratch)

    def exact(self) -> dict[str, Array]:
        """In float64."""
        x, v, a, b, w = (z.astype(np.float64) for z in (self.X, self.V, self.A, self.B, self.W))
        G = 0.5 * v.T @ x
        return {"Y": x @ (w + 0.5 * b @ a).T, "dX": v @ (w + 0.5 * b @ a), "grad_A": b.T @ G, "grad_B": G @ a.T}

    def within(self, names: str, exact: dict[str, Array]) -> None:
        for name in names.split():
            within(getattr(self, name), exact[name], (self.n + 2 * self.d + self.r) * self.kernels.eps)
        squares = np.array([[np.square(exact[name]).sum()] for name in ("grad_A", "grad_B")])
        within(self.squares, squares, 4 * (self.n + 2 * self.d + self.r) * self.kernels.eps)


LINEARS = [(14, 16, 12), (58, 64, 48), (300, 128, 91), (20, 24, 300)]
"""Fewer rows than widths and a rank below them: V'X is then the largest operand that is packed. Last: more ranks than a block holds."""


@pytest.mark.parametrize("merged", [0, 1])
@pytest.mark.parametrize(("n", "d", "r"), LINEARS)
def test_a_linear_and_its_way_back(kernels: Kernels, n: int, d: int, r: int, merged: int) -> None:
    at = Adapted(kernels, n, d, r, merged)
    exact = at.exact()
    at.there_and_back()
    at.within("Y dX grad_A grad_B", exact)


@pytest.mark.parametrize(("n", "d", "r"), LINEARS)
def test_the_first_step_is_that_of_a_factor_at_zero(kernels: Kernels, n: int, d: int, r: int) -> None:
    at = Adapted(kernels, n, d, r, 0)
    at.B[:] = 0
    exact = at.exact()
    at.first()
    at.within("grad_B", exact)
    assert (at.grad_A == 0).all()


def by_torch(name: str, w: Array, g: Array, m: Array, s: Array, *, lr: float, decay: float, t: int) -> list[Array]:
    """One step of torch's optimizer in float64 from given moments: the factor and its moments after it."""
    at = torch.nn.Parameter(torch.from_numpy(w).double())
    at.grad = torch.from_numpy(g).double()
    optimizer = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name]([at], lr=lr, betas=(0.8, 0.9), eps=1e-3, weight_decay=decay)
    state = {"step": torch.tensor(float(t - 1)), "exp_avg": torch.from_numpy(m).double(), "exp_avg_sq": torch.from_numpy(s).double()}
    optimizer.state[at] = state
    optimizer.step()
    return [at.detach().numpy(), state["exp_avg"].numpy(), state["exp_avg_sq"].numpy()]


@pytest.mark.parametrize("merged", [0, 1])
@pytest.mark.parametrize(("n", "d", "r"), LINEARS)
@pytest.mark.parametrize("name", ["adam", "adamw"])
@pytest.mark.parametrize("first", [False, True], ids=["later", "first"])
def test_a_step_is_taken_along_with_the_gradients(kernels: Kernels, name: str, n: int, d: int, r: int, merged: int, first: bool) -> None:
    """Both gradients are those of the factors as they were: one that moved too early would show in the other's gradient and in dX."""
    optimizer = as_optimizer(f"{name}:beta1=0.8,beta2=0.9,eps=1e-3,weight_decay=0.1")
    stepping = Stepping.of(optimizer, *(torch.zeros(1, dtype=DTYPES[kernels.dtype]) for _ in range(2)))
    stepping.at(3)
    at = Adapted(kernels, n, d, r, merged, stepping.constants)
    at.B[:] = 0 if first else at.B
    exact = at.exact()
    before = [z.astype(np.float64) for z in (at.A, at.B)]
    moments = [z.astype(np.float64) for z in at.moments]
    at.first() if first else at.there_and_back()
    at.within("" if first else "Y dX", exact)
    for k, (w, g) in enumerate(((at.A, exact["grad_A"]), (at.B, exact["grad_B"]))):
        m, s = moments[2 * k : 2 * k + 2]
        expected = by_torch(name, before[k], g, m, s, lr=float(at.rates[k][0]), decay=0.1, t=3)
        for got, want in zip((w, *at.moments[2 * k : 2 * k + 2]), expected, strict=True):
            # The update m / sqrt(s) has no more than the relative error of the gradient's entries against the greatest of them.
            within(got, want, 8 * (n + 2 * d + r) * kernels.eps)
    assert np.isnan(at.grad_A).all() and np.isnan(at.grad_B).all(), "a gradient went to the buffer"
