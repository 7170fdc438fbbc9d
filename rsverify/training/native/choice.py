"""Which build is used at which shape: a rule in place of a clock, so that equal inputs train by the same route on every run."""

from __future__ import annotations

from rsverify.training.native import library

NARROW = 64
"""Width of a model up to which kernels on vectors of 16 bytes are used on a processor that has wider ones, which torch's products use."""
WIDEST = {"avx512f": 64, "avx2": 32}
"""Bytes of a vector by the feature that brings them."""


def is_faster(*, d: int, lanes: int, itemsize: int) -> bool:
    """Whether kernels on vectors of so many lanes train a model of that width faster than autograd does."""
    there = library.of_processor()
    torch_uses = max((size for feature, size in WIDEST.items() if feature in there), default=16)
    return lanes * itemsize >= min(torch_uses, 32) or d <= NARROW
