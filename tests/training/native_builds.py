"""The builds that the kernels' tests run: this processor's own, and the narrowest that compilers know for it."""

from __future__ import annotations

import os

import pytest
import torch

from rsverify.training.native import build
from rsverify.training.native.build import Build, Kernels

NARROWEST = build.PROCESSORS[1] if len(build.PROCESSORS) > 1 else "native"
WANTED = os.environ.get("RSVERIFY_TEST_BUILDS", f"native,{NARROWEST}")
"""Others to try, as RSVERIFY_TEST_BUILDS="gcc:x86-64-v3,clang:native"."""
BUILDS = [one for text in dict.fromkeys(WANTED.split(",")) if (one := Build.parse(text))]
REALS = {torch.float32: "float", torch.float64: "double"}
EACH = [pytest.param((one, dtype), id=f"{one.text}-{name}") for one in BUILDS for dtype, name in REALS.items()]
"""Pairs of a build and a dtype, for `kernels_of`."""


def kernels_of(dtype: torch.dtype, one: Build | None = None) -> Kernels:
    """The kernels of a build, by default of the environment's; the test is skipped where there are none."""
    kernels = build.kernels(dtype, build=one)
    if kernels is None:
        pytest.skip(build.remark(dtype, build=one) or "kernels are switched off")
    return kernels
