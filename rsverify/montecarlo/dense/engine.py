"""The dense engine: any declared adapter, many draws at once, in float64.

A factor that is None is identically zero; so are then the output and the gradients of all other factors. LoRA's B at
init is such a factor, and nothing is spent on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.optimizers import Optimizer
from rsverify.montecarlo.dense.contraction import Named, contract
from rsverify.montecarlo.problem import Problem
from rsverify.montecarlo.updates import State, apply_step

BATCH = "*"  # no axis name: the adapter's grammar cannot write it
SAMPLE = "#"
Factors = Mapping[str, np.ndarray | None]


@dataclass(frozen=True)
class Engine:
    """An adapter at one rank with its factor gamma."""

    adapter: Adapter
    rank: int
    gamma: float
    d_in: int
    d_out: int

    def _columns(self, x: np.ndarray) -> Named:
        return self._named(x, self.adapter.result[1])

    def _rows(self, v: np.ndarray) -> Named:
        return self._named(v, self.adapter.result[0])

    def _named(self, data: np.ndarray, axes: tuple[str, ...]) -> Named:
        sizes = self.adapter.axis_sizes(self.rank, self.d_in, self.d_out)
        return data.reshape([*(sizes[a] for a in axes), *data.shape[1:]]), (*axes, SAMPLE)[: len(axes) + data.ndim - 1]

    def _operands(self, factors: Factors, without: str = "") -> list[Named] | None:
        found: list[Named] = []
        for name, axes in self.adapter.operands.items():
            array = factors[name]
            if name == without:
                continue
            if array is None:
                return None
            found.append((array, (BATCH, *axes)))
        return found

    def output(self, factors: Factors, x: np.ndarray) -> np.ndarray | None:
        """gamma * delta x for every draw, (draws, d_out) or (draws, d_out, n)."""
        operands = self._operands(factors)
        if operands is None:
            return None
        y = contract([*operands, self._columns(x)], (BATCH, *self.adapter.result[0], *(SAMPLE,) * (x.ndim - 1)))
        return self.gamma * y.reshape(len(y), self.d_out, *x.shape[1:])

    def input_gradient(self, factors: Factors, v: np.ndarray) -> np.ndarray | None:
        """gamma * delta' v for every draw, (draws, d_in) or (draws, d_in, n)."""
        operands = self._operands(factors)
        if operands is None:
            return None
        y = contract([*operands, self._rows(v)], (BATCH, *self.adapter.result[1], *(SAMPLE,) * (v.ndim - 1)))
        return self.gamma * y.reshape(len(y), self.d_in, *v.shape[1:])

    def gradients(self, factors: Factors, problem: Problem, draws: int) -> dict[str, np.ndarray | None]:
        """The gradient of the sum of v . (gamma delta x) in every trained factor: the contraction with that operand left out."""
        found: dict[str, np.ndarray | None] = {}
        sizes = self.adapter.axis_sizes(self.rank, self.d_in, self.d_out)
        for name in self.adapter.trainable:
            operands = self._operands(factors, without=name)
            if operands is None:
                found[name] = None
                continue
            axes = self.adapter.operands[name]
            # An axis of this factor alone stands in no other operand: its gradient is the same all along it.
            held = {axis for _, others in (*operands, self._columns(problem.x), self._rows(problem.v)) for axis in others}
            alone = [(np.ones(sizes[axis]), (axis,)) for axis in axes if axis not in held]
            # A lone factor has no draw in its gradient: the batch axis is then made by hand.
            batch = [] if operands else [(np.full(draws, 1.0), (BATCH,))]
            scaled = self.gamma * self._rows(problem.v)[0], self._rows(problem.v)[1]
            found[name] = contract([*operands, *batch, *alone, self._columns(problem.x), scaled], (BATCH, *axes))
        return found

    def train(self, factors: Factors, problem: Problem, optimizer: Optimizer, *, steps: int, lr: float, draws: int) -> Factors:
        """The factors after the steps, the signal v the same at each; those given are left as they were."""
        state: State = {}
        now = dict(factors)
        for t in range(1, steps + 1):
            gradients = self.gradients(now, problem, draws)
            now.update(apply_step(optimizer, {name: now[name] for name in gradients}, gradients, state, t=t, lr=lr, ups=self.adapter.ups))
        return now
