"""The reference that the dense engine is held to: one draw, plain loops over named axes, nothing shared with the engine.

Slow on purpose. It reads the adapter's expression text itself.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

Entries = Mapping[str, Any]
"""Factors by name, each anything that `value[index]` reads with a tuple."""


class NaiveAdapter:
    """An adapter as loops: expression text, axis sizes, names of the factors in the order of the operands, gamma."""

    def __init__(self, expression: str, sizes: Mapping[str, int], names: Sequence[str], gamma: float) -> None:
        left, right = expression.split("->")
        self.operands = {name: part.split() for name, part in zip(names, left.split(","), strict=True)}
        groups: list[list[str]] = []
        inside = False
        for token in right.replace("(", " ( ").replace(")", " ) ").split():
            if token == "(":
                groups.append([])
                inside = True
            elif token == ")":
                inside = False
            elif inside:
                groups[-1].append(token)
            else:
                groups.append([token])
        self.rows, self.columns = groups
        self.sizes, self.gamma = dict(sizes), gamma
        self.axes = sorted({axis for axes in self.operands.values() for axis in axes})

    def _terms(self) -> Iterator[dict[str, int]]:
        for values in itertools.product(*(range(self.sizes[axis]) for axis in self.axes)):
            yield dict(zip(self.axes, values, strict=True))

    def _flat(self, axes: Sequence[str], at: Mapping[str, int]) -> int:
        index = 0
        for axis in axes:
            index = index * self.sizes[axis] + at[axis]
        return index

    def _product(self, factors: Entries, at: Mapping[str, int], without: str = "") -> float:
        value = 1.0
        for name, axes in self.operands.items():
            if name != without:
                value *= float(factors[name][tuple(at[axis] for axis in axes)])
        return value

    def output(self, factors: Entries, x: Sequence[float], d_out: int, *, absolute: bool = False) -> list[float]:
        """gamma * delta x; with `absolute`, the sum of the absolute products, for rounding bounds."""
        found = [0.0] * d_out
        for at in self._terms():
            term = self.gamma * self._product(factors, at) * float(x[self._flat(self.columns, at)])
            found[self._flat(self.rows, at)] += abs(term) if absolute else term
        return found

    def input_gradient(self, factors: Entries, v: Sequence[float], d_in: int) -> list[float]:
        """gamma * delta' v."""
        found = [0.0] * d_in
        for at in self._terms():
            found[self._flat(self.columns, at)] += self.gamma * self._product(factors, at) * float(v[self._flat(self.rows, at)])
        return found

    def gradient(self, factors: Entries, name: str, x: Sequence[float], v: Sequence[float]) -> dict[tuple[int, ...], float]:
        """d (v . gamma delta x) / d factor, by index."""
        found: dict[tuple[int, ...], float] = {}
        for at in self._terms():
            place = tuple(at[axis] for axis in self.operands[name])
            term = self.gamma * self._product(factors, at, without=name)
            term *= float(x[self._flat(self.columns, at)]) * float(v[self._flat(self.rows, at)])
            found[place] = found.get(place, 0.0) + term
        return found

    def terms_per_entry(self) -> int:
        """The largest number of products summed into one entry of anything above."""
        return math.prod(self.sizes[axis] for axis in self.axes)

    def train_sgd(
        self, factors: Entries, trainable: Sequence[str], x: Sequence[float], v: Sequence[float], *, steps: int, lr: float
    ) -> Entries:
        """The factors after plain SGD steps, all factors moved at once."""
        return self.train(factors, trainable, x, v, steps=steps, move=lambda w, g: w - lr * g)

    def train(
        self, factors: Entries, trainable: Sequence[str], x: Sequence[float], v: Sequence[float], *,
        steps: int, move: Callable[[float, float], float],
    ) -> Entries:  # fmt: skip
        """The factors after steps of an update without memory: entry, gradient -> entry."""
        now = {name: _entries(value) for name, value in factors.items()}
        for _ in range(steps):
            gradients = {name: self.gradient(now, name, x, v) for name in trainable}
            for name, gradient in gradients.items():
                now[name] = {place: move(value, gradient[place]) for place, value in now[name].items()}
        return now


def _entries(array: Any) -> dict[tuple[int, ...], float]:
    return {place: float(array[place]) for place in itertools.product(*(range(size) for size in array.shape))}
