"""The products in C against float64 (or wider) sums, for every layout of their factors and every end of a block.

The bound is entry by entry: k + 4 roundings of the sum of the absolute terms (Higham, Accuracy and Stability of Numerical Algorithms, 3.1).
"""

from __future__ import annotations

import ctypes
import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent))

from native_builds import EACH, kernels_of

from rsverify.training.native.build import Kernels

Array = NDArray[Any]

WIDER = {np.float32: np.float64, np.float64: np.longdouble}
DTYPES: dict[torch.dtype, type[np.floating[Any]]] = {torch.float32: np.float32, torch.float64: np.float64}

SHAPES = [
    (1, 1, 1), (8, 32, 16), (7, 33, 5), (9, 40, 17), (16, 4, 64), (6, 8, 48), (13, 16, 31), (5, 50, 100), (64, 168, 64), (3, 15, 20),
    (130, 48, 20), (257, 70, 300), (300, 33, 257), (258, 47, 515),
]  # fmt: skip
"""(m, n, k): below, at and above blocks of rows, vectors and panels; left factors whose transposes have short rows and long ones."""


def check(library: ctypes.CDLL, dtype: type[np.floating[Any]], shape: tuple[int, int, int], layout: str, *, beta: bool) -> None:
    """One product of drawn factors; `layout` names those that are stored as their transposes. What lies beside C must stay as it is."""
    m, n, k = shape
    rng = np.random.default_rng(m + 1000 * n + 1000_000 * k)
    A, B, old = (rng.standard_normal(sizes).astype(dtype) for sizes in ((m, k), (k, n), (m, n + 3)))
    left, right = (np.ascontiguousarray(z.T if name in layout else z) for name, z in (("A", A), ("B", B)))
    strides_A, strides_B = ((1, m) if "A" in layout else (k, 1)), ((1, k) if "B" in layout else (n, 1))
    C = old.copy() if beta else np.where(np.arange(n + 3) < n, np.nan, old).astype(dtype)
    library.rsv_packed_size.restype = ctypes.c_int64
    scratch = np.full(library.rsv_packed_size(ctypes.c_int64(k), ctypes.c_int64(n)), np.nan, dtype=dtype)
    pointer = lambda z: ctypes.c_void_p(z.ctypes.data)  # noqa: E731
    whole = lambda *values: [ctypes.c_int64(value) for value in values]  # noqa: E731
    alpha = 0.75
    library.rsv_product(
        *whole(m, n, k), pointer(left), *whole(*strides_A), pointer(right), *whole(*strides_B), pointer(C), *whole(n + 3),
        (ctypes.c_float if dtype is np.float32 else ctypes.c_double)(alpha), ctypes.c_int(beta), pointer(scratch),
    )  # fmt: skip
    wide = WIDER[dtype]
    exact = alpha * (A.astype(wide) @ B.astype(wide)) + beta * old[:, :n].astype(wide)
    size = alpha * (np.abs(A).astype(wide) @ np.abs(B).astype(wide)) + beta * np.abs(old[:, :n])
    assert (np.abs(C[:, :n] - exact) <= (k + 4) * np.finfo(dtype).eps / 2 * size).all()
    assert (C[:, n:] == old[:, n:]).all()


def check_all(library: ctypes.CDLL, dtype: type[np.floating[Any]]) -> None:
    for shape, layout, beta in itertools.product(SHAPES, ("", "A", "B", "AB"), (False, True)):
        check(library, dtype, shape, layout, beta=beta)


@pytest.fixture(scope="module", params=EACH)
def kernels(request: pytest.FixtureRequest) -> Kernels:
    one, dtype = request.param
    return kernels_of(dtype, one)


@pytest.mark.parametrize("beta", [False, True], ids=["set", "added"])
@pytest.mark.parametrize("layout", ["", "A", "B", "AB"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_product(kernels: Kernels, shape: tuple[int, int, int], layout: str, beta: bool) -> None:
    check(kernels.library, DTYPES[kernels.dtype], shape, layout, beta=beta)
