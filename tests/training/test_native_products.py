"""The products in C against float64 (or wider) sums, for every layout of their factors and every end of a block.

The bound is entry by entry: k + 4 roundings of the sum of the absolute terms (Higham, Accuracy and Stability of Numerical Algorithms, 3.1).
"""

from __future__ import annotations

import ctypes
import itertools
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from rsverify.training.native import build

Array = NDArray[Any]

WRAPPED = """
#include "product.h"
void rsv_product(int64_t m, int64_t n, int64_t k, const REAL *A, int64_t ars, int64_t acs, const REAL *B, int64_t brs, int64_t bcs, REAL *C,
                 int64_t ldc, double alpha, int beta, REAL *scratch)
{
    product(m, n, k, A, ars, acs, B, brs, bcs, C, ldc, (REAL)alpha, beta, scratch);
}
int64_t rsv_packed_size(int64_t k, int64_t n) { return packed_size(k, n); }
"""
WIDER = {np.float32: np.float64, np.float64: np.longdouble}
REALS = {np.float32: "float", np.float64: "double"}

SHAPES = [
    (1, 1, 1), (8, 32, 16), (7, 33, 5), (9, 40, 17), (16, 4, 64), (6, 8, 48), (13, 16, 31), (5, 50, 100), (64, 168, 64), (3, 15, 20),
    (130, 48, 20), (257, 70, 300), (300, 33, 257), (258, 47, 515),
]  # fmt: skip
"""(m, n, k): below, at and above blocks of rows, vectors and panels; left factors whose transposes have short rows and long ones."""


def compiled(folder: Path, dtype: type[np.floating[Any]], sources: Path) -> ctypes.CDLL:
    compiler = next((found for name in build.COMPILERS if (found := shutil.which(name))), None)
    if compiler is None:
        pytest.skip("no C compiler")
    (folder / "wrapped.c").write_text(WRAPPED)
    built = folder / f"{REALS[dtype]}.so"
    subprocess.run(
        [compiler, *build.FLAGS, f"-DREAL={REALS[dtype]}", f"-I{sources}", "wrapped.c", "-o", str(built), "-lm"], cwd=folder, check=True
    )
    library = ctypes.CDLL(str(built))
    library.rsv_packed_size.restype = ctypes.c_int64
    return library


def check(library: ctypes.CDLL, dtype: type[np.floating[Any]], shape: tuple[int, int, int], layout: str, *, beta: bool) -> None:
    """One product of drawn factors; `layout` names those that are stored as their transposes. What lies beside C must stay as it is."""
    m, n, k = shape
    rng = np.random.default_rng(m + 1000 * n + 1000_000 * k)
    A, B, old = (rng.standard_normal(sizes).astype(dtype) for sizes in ((m, k), (k, n), (m, n + 3)))
    left, right = (np.ascontiguousarray(z.T if name in layout else z) for name, z in (("A", A), ("B", B)))
    strides_A, strides_B = ((1, m) if "A" in layout else (k, 1)), ((1, k) if "B" in layout else (n, 1))
    C = old.copy() if beta else np.where(np.arange(n + 3) < n, np.nan, old).astype(dtype)
    scratch = np.full(library.rsv_packed_size(ctypes.c_int64(k), ctypes.c_int64(n)), np.nan, dtype=dtype)
    pointer = lambda z: ctypes.c_void_p(z.ctypes.data)  # noqa: E731
    whole = lambda *values: [ctypes.c_int64(value) for value in values]  # noqa: E731
    alpha = 0.75
    library.rsv_product(
        *whole(m, n, k), pointer(left), *whole(*strides_A), pointer(right), *whole(*strides_B), pointer(C), *whole(n + 3),
        ctypes.c_double(alpha), ctypes.c_int(beta), pointer(scratch),
    )  # fmt: skip
    wide = WIDER[dtype]
    exact = alpha * (A.astype(wide) @ B.astype(wide)) + beta * old[:, :n].astype(wide)
    size = alpha * (np.abs(A).astype(wide) @ np.abs(B).astype(wide)) + beta * np.abs(old[:, :n])
    assert (np.abs(C[:, :n] - exact) <= (k + 4) * np.finfo(dtype).eps / 2 * size).all()
    assert (C[:, n:] == old[:, n:]).all()


def check_all(library: ctypes.CDLL, dtype: type[np.floating[Any]]) -> None:
    for shape, layout, beta in itertools.product(SHAPES, ("", "A", "B", "AB"), (False, True)):
        check(library, dtype, shape, layout, beta=beta)


@pytest.fixture(scope="module", params=[np.float32, np.float64], ids=["float", "double"])
def library(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[ctypes.CDLL, type[np.floating[Any]]]:
    return compiled(tmp_path_factory.mktemp("product"), request.param, build.HERE), request.param


@pytest.mark.parametrize("beta", [False, True], ids=["set", "added"])
@pytest.mark.parametrize("layout", ["", "A", "B", "AB"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_product(library: tuple[ctypes.CDLL, type[np.floating[Any]]], shape: tuple[int, int, int], layout: str, beta: bool) -> None:
    check(*library, shape, layout, beta=beta)


@pytest.mark.skipif(build.kernels(torch.float32) is None, reason="there are no kernels")
@pytest.mark.parametrize(
    ("file", "right", "wrong"),
    [
        ("product.h", "beta || from > 0", "beta"),
        ("product.h", "packed + from * vecs * LANES", "packed"),
        ("product.h", "tile[l * rows + q] = at[q]", "tile[l * ROWS + q] = at[q]"),
        ("product.h", "copy_part(B + whole, width - whole, to + whole)", "copy_part(B + whole, width - whole - 1, to + whole)"),
        ("product.h", "i < there ? load(from + i * from_ld) : all(0)", "i + 1 < there ? load(from + i * from_ld) : all(0)"),
        ("product.h", "if (beta) found += load_part(to, there, 0);", ""),
        ("product.h", "for (int64_t l = deep; l < k; l++)", "for (int64_t l = deep + 1; l < k; l++)"),
        ("vec.h", "from += piece;", "from += 1;"),
    ],
)  # fmt: skip
def test_a_wrong_product_is_seen(tmp_path: Path, file: str, right: str, wrong: str) -> None:
    for source in build.HERE.glob("*.h"):
        text = source.read_text()
        assert source.name != file or right in text
        (tmp_path / source.name).write_text(text.replace(right, wrong) if source.name == file else text)
    library = compiled(tmp_path, np.float32, tmp_path)
    with pytest.raises(AssertionError):
        check_all(library, np.float32)
