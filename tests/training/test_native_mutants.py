"""A kernel that is wrong in one place is seen by the tests that stand for it."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

from native_builds import kernels_of
from native_mutants import Mutant, compiled, mutated
from test_native_draws import test_uniform_entries_are_those_of_numpy as check_draws
from test_native_products import check_all
from test_stacked import MIXED, assert_equal, small_task

from rsverify.training import train_stacked
from rsverify.training.native import build, compiler
from rsverify.training.native.library import Library

pytestmark = pytest.mark.training

WHOLE: dict[str, Mutant] = {
    "gamma of the first": ("linear.h", "part->gamma[«i»]", "0"),
    "factors of the first": ("linear.h", "at = «i * part->stride»", "0 * i"),
    "probe without its square": ("linear.h", "squares[c] += «square_sum(n * d_out, Y)»", "Y[0] * Y[0]"),
    "signal of the second linear not added": ("linear.h", "mine, d_in, 1, «add»)", "0"),
    "merged weight without the base": ("linear.h", "if («part->merged») add_to(d_out * d_in, W,", "0"),
    "a part of the gradient's norm": ("linear.h", "*square += square_sum(width, g)", "*square = square_sum(width, g)"),
    "first step without gamma": ("linear.h", "for_B.g, for_B.ld, «gamma», 0, scratch)", "(REAL)1"),
    "first step on another's data": ("linear.h", "source[c] == «from»", "sources - 1 - from"),
    "learning rate of the first": ("linear.h", "factor->lr[«i»]", "0"),
    "decay of the other sign": ("adam.h", "kept = «1 - lr * at->shrink»", "1 + lr * at->shrink"),
    "moments at rest not corrected": ("adam.h", "size = «lr / at->first»", "lr"),
    "the future seen": ("attention.h", "lane[i] < «(whole)(j - lo)»", "(whole)(j - lo - 1)"),
    "turned the wrong way back": ("attention.h", "sin + j, «-1»);", "(REAL)1"),
    "heads that share keys overwrite": ("attention.h", "at.dk, width, 1, «1»)", "0"),
    "norm without projection": ("pointwise.h", "along = «weighed_sum(d, w, dh, x)»", "(REAL)0"),
    "gate without its slope": ("pointwise.h", "value * (1 - sigmoid)", "value * 1"),
    "last token counted": ("pointwise.h", "logits[j] = «0»; /*", "1"),
    "last row of a block left out": ("product.h", "i + ROWS <= m", "i + ROWS < m"),
}
"""Seen by three steps of a whole run."""

PRODUCTS: dict[str, Mutant] = {
    "a slice's sum overwritten": ("product.h", "beta || from > 0", "beta"),
    "the first slice again": ("product.h", "packed + from * vecs * LANES", "packed"),
    "rows of a tile too far apart": ("product.h", "tile[«l * rows + q»] = at[q]", "l * ROWS + q"),
    "a panel's last column lost": ("product.h", "copy_part(B + whole, «width - whole», to + whole)", "width - whole - 1"),
    "a square's last row lost": ("product.h", "«i < there» ? load(from + i * from_ld)", "i + 1 < there"),
    "a part of a vector overwritten": ("product.h", "if («beta») result += load_part(to, there, 0);", "0"),
    "a row behind the squares lost": ("product.h", "int64_t l = «deep»; l < k", "deep + 1"),
    "pieces in the wrong place": ("vec.h", "from += «piece»;", "1"),
}  # fmt: skip
"""Seen by products of all layouts."""

DRAWS: dict[str, Mutant] = {
    "the counter that numpy never draws at": ("philox.h", "1 + i / 4", "i / 4"),
    "one round less": ("philox.h", "round = «0»; round < 10", "1"),
    "one bit less": ("philox.h", "bits >> 11", "bits >> 12 << 1"),
    "a key left out": ("philox.h", "«(uint64_t)(second >> 64) ^ b ^ key0»", "(uint64_t)(second >> 64) ^ b"),
    "another step of the key": ("philox.h", "key1 += «0xBB67AE8584CAA73Bu»", "0xBB67AE8584CAA73Du"),
}
"""Seen by entries of numpy's streams."""
MUTANTS = WHOLE | PRODUCTS | DRAWS


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    kernels_of(torch.float64)
    return compiled(MUTANTS, tmp_path_factory)


@pytest.fixture
def wake(library: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch):
    """Wakes one mutant, and has it serve."""
    number = ctypes.c_int.in_dll(library, "rsv_mutant")
    monkeypatch.setenv(build.SWITCH, "on")
    monkeypatch.setattr(build, "_library", lambda real, one: Library(library) if real == "double" else "float is not mutated")

    def one(name: str | None) -> ctypes.CDLL:
        number.value = 1 + list(MUTANTS).index(name) if name else 0
        return library

    yield one
    number.value = 0


def train() -> None:
    task = small_task()
    assert_equal(task, train_stacked(task, MIXED[:7], steps=3), 3)


def test_asleep_they_are_right(wake) -> None:
    """So that what the others see is the mutant."""
    library = wake(None)
    train()
    check_all(library, np.float64)
    check_draws((None, torch.float64))


@pytest.mark.parametrize("name", WHOLE)
def test_a_wrong_kernel_is_seen(name: str, wake) -> None:
    wake(name)
    with pytest.raises(AssertionError):
        train()


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_wrong_product_is_seen(name: str, wake) -> None:
    library = wake(name)
    with pytest.raises(AssertionError):
        check_all(library, np.float64)


@pytest.mark.parametrize("name", DRAWS)
def test_a_changed_generator_is_seen(name: str, wake) -> None:
    wake(name)
    with pytest.raises(AssertionError):
        check_draws((None, torch.float64))


def test_a_mutant_that_fits_nowhere_is_refused() -> None:
    with pytest.raises(AssertionError, match="has no 'no such line'"):
        mutated({"none": ("vec.h", "no such line", "0")}, compiler.HERE)
