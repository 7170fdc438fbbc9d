"""Products by either library are the same numbers to rounding, whatever lies transposed; a wrong operand is seen."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rsverify.training import products
from rsverify.training.products import add_batched, batched, times

pytestmark = pytest.mark.training

SIZES = [(7, 5, 3), (256, 96, 128)]
"""One for torch's BLAS, one that is worth oneDNN's call."""


def operand(*shape, turned, seed):
    values = torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))
    return values.mT.contiguous().mT if turned else values


def close(found, a, b, plus=0.0):
    """Within (k + 2) roundings of the sum of absolute terms."""
    exact = a.double() @ b.double() + plus
    size = a.double().abs() @ b.double().abs() + (plus.abs() if isinstance(plus, torch.Tensor) else 0.0)
    return bool(((found.double() - exact).abs() <= (a.shape[-1] + 2) * 2.0**-24 * size).all())


@pytest.mark.parametrize("turned", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize(("m", "k", "n"), SIZES)
def test_products(m, k, n, turned):
    x, w = operand(m, k, turned=turned[0], seed=1), operand(n, k, turned=turned[1], seed=2)
    plus = operand(m, n, turned=False, seed=3)
    before = plus.double()
    assert close(times(x, w), x, w.t())
    assert not close(times(x, w * (1 + 1e-3)), x, w.t())
    assert close(times(x, w, plus=plus.clone()), x, w.t(), before)
    assert close(batched(x[None], w.t()[None])[0], x, w.t())
    assert close(add_batched(plus.clone()[None], x[None], w.t()[None])[0], x, w.t(), before)
    out = torch.empty(1, m, n)
    assert batched(x[None], w.t()[None], out=out) is out
    assert close(out[0], x, w.t())


def test_who_takes_a_product_follows_from_its_shape():
    large = torch.zeros(1)
    if products._LINEAR is None:
        pytest.skip("this build of torch has no oneDNN")
    assert products.by_onednn(large, products.WORTH)
    assert not products.by_onednn(large, products.WORTH - 1)
    assert not products.by_onednn(large.double(), products.WORTH)


def test_without_onednn_the_products_are_those_of_blas(monkeypatch):
    monkeypatch.setattr(products, "_LINEAR", None)
    x, w = operand(256, 96, turned=False, seed=1), operand(128, 96, turned=True, seed=2)
    assert torch.equal(times(x, w), torch.mm(x, w.t()))
