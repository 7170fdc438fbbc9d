"""The builds that the kernels' tests run: this processor's own, and the narrowest that compilers know for it."""

from __future__ import annotations

import pytest
import torch

from rsverify.training.native import build
from rsverify.training.native.build import Build, Kernels

BUILDS = list(dict.fromkeys([Build(), Build(build.PROCESSORS[1] if len(build.PROCESSORS) > 1 else "native")]))
REALS = {torch.float32: "float", torch.float64: "double"}
EACH = [pytest.param((one, dtype), id=f"{one.text}-{name}") for one in BUILDS for dtype, name in REALS.items()]
"""Pairs of a build and a dtype, for `kernels_of`."""


def kernels_of(dtype: torch.dtype, one: Build | None = None) -> Kernels:
    """The kernels of a build, by default of the environment's; the test is skipped where there are none."""
    kernels = build.kernels(dtype, build=one)
    if kernels is None:
        pytest.skip(build.remark(dtype, build=one) or "kernels are switched off")
    return kernels
