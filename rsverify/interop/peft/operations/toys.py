"""Small models for the checks of operations, what is done to them, and when two results are the same."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from rsverify.conformance.outcomes import Wrong
from rsverify.interop.peft.library import library

CLOSE = 1e-4
"""Relative error of a ratio or a weight: a thousand roundings of float32, a thousandth of the errors that are looked for."""


def adapt(base: nn.Module, config: str = "LoraConfig", **settings: Any) -> Any:
    """A model under a config, on its module "0" unless told otherwise."""
    return library().get_peft_model(base, make(config, **settings))


def make(config: str = "LoraConfig", **settings: Any) -> Any:
    where = {} if "target_parameters" in settings else {"target_modules": ["0"]}
    return getattr(library(), config)(**{**where, **settings})


def chain(*sizes: int, dtype: torch.dtype = torch.float32) -> nn.Sequential:
    """Linear layers one after the other, the same at every call."""
    torch.manual_seed(5)
    return nn.Sequential(*(nn.Linear(i, o, dtype=dtype) for i, o in pairwise(sizes)))


def x_for(size: int = 8) -> Tensor:
    return torch.linspace(-1.0, 2.0, 3 * size).reshape(3, size)


def stir(model: nn.Module, name: str) -> None:
    """Move the parameters whose names hold a word."""
    torch.manual_seed(7)
    for key, value in model.named_parameters():
        if name in key:
            value.data.add_(0.3 * torch.randn_like(value))


@contextmanager
def folder() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as path:
        yield path


def hotswap(model: Any, path: str, name: str = "default") -> None:
    from peft.utils.hotswap import hotswap_adapter

    hotswap_adapter(model, path, name, torch_device="cpu")


def same(found: float, expected: float, what: str) -> None:
    if not math.isclose(found, expected, rel_tol=CLOSE, abs_tol=1e-9):
        raise Wrong(f"{what}: {found:.6g}; expected {expected:.6g}")


def equal(found: Tensor, expected: Tensor, what: str) -> None:
    off = float((found - expected).detach().norm()) / float(expected.detach().norm())
    if not off <= CLOSE:
        raise Wrong(f"{what}: off by {off:.2g} of itself")
