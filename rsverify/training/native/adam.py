"""Adam's step as the kernels take it: along each gradient while it lies in the cache, so that no gradient goes through memory."""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rsverify.definitions.optimizers import Optimizer

NAMES = ("one", "other", "beta2", "eps", "coupled", "shrink", "first", "second")


class _Float(ctypes.Structure):
    _fields_ = [(name, ctypes.c_float) for name in NAMES]


class _Double(ctypes.Structure):
    _fields_ = [(name, ctypes.c_double) for name in NAMES]


CONSTANTS: dict[torch.dtype, type[ctypes.Structure]] = {torch.float32: _Float, torch.float64: _Double}
"""`rsv_adam` of adam.h."""


def steps_along(optimizer: Optimizer) -> bool:
    """Whether the kernels can take this update at once: Adam's, with no bound that must know all gradients first."""
    return optimizer.name in ("adam", "adamw") and not optimizer.option("clip")


@dataclass(frozen=True)
class Stepping:
    """The update of some configurations: its constants at the step that `at` names, and their moments.

    Shapes: m, s (configurations, columns).
    """

    optimizer: Optimizer
    constants: ctypes.Structure
    m: Tensor
    s: Tensor

    @classmethod
    def of(cls, optimizer: Optimizer, m: Tensor, s: Tensor) -> Stepping:
        return cls(optimizer, CONSTANTS[m.dtype](), m, s)

    def rows(self, rows: slice) -> Stepping:
        """The same for some of the configurations, with the same constants."""
        return Stepping(self.optimizer, self.constants, self.m[rows], self.s[rows])

    def at(self, t: int) -> None:
        """Set the constants of step `t`, counted from 1."""
        beta1, beta2, decay = (self.optimizer.option(name) for name in ("beta1", "beta2", "weight_decay"))
        coupled = self.optimizer.name == "adam"
        found = {
            "one": 1 - beta1, "other": 1 - beta2, "beta2": beta2, "eps": self.optimizer.option("eps"), "coupled": decay if coupled else 0.0,
            "shrink": 0.0 if coupled else decay, "first": 1 - beta1**t, "second": math.sqrt(1 - beta2**t),
        }  # fmt: skip
        for name, value in found.items():
            setattr(self.constants, name, value)
