"""How every test runs: Hypothesis profiles, and why a GPU test is skipped."""

from __future__ import annotations

import os

if "PYTEST_XDIST_WORKER" in os.environ:  # as many workers as cores: a worker that takes all of them slows the others
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("nightly", derandomize=False, deadline=None, print_blob=True, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    marked = [item for item in items if item.get_closest_marker("cuda")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        skip = pytest.mark.skip(reason=f"torch {torch.__version__} sees no CUDA device here")
        for item in marked:
            item.add_marker(skip)
