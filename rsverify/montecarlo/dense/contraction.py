"""Contractions of named-axes arrays, pair by pair, cheapest and never widening pair first.

Contracting with the data first follows from it: A x costs r d_in, B A costs d_out r d_in, so no d_out x d_in matrix is
built unless the expression itself forces one (a Hadamard product of two added weights does).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np

Named = tuple[np.ndarray, tuple[str, ...]]
"""An array and the names of its axes."""


def contract(operands: Sequence[Named], result: tuple[str, ...]) -> np.ndarray:
    """The sum over every axis that the result does not name.

    Shapes: the result has its axes in the order given; an axis of a size is the same size everywhere.
    """
    sizes = {axis: size for array, axes in operands for axis, size in zip(axes, array.shape, strict=True)}
    left = list(operands)
    for i, j, kept in _order([axes for _, axes in operands], result, sizes):
        made = _pair(left[i], left[j], kept)
        left = [*(operand for k, operand in enumerate(left) if k not in (i, j)), made]
    array, axes = left[0]
    return array if axes == result else _single(array, axes, result)


def held_entries(operands: Sequence[tuple[str, ...]], result: tuple[str, ...], sizes: Mapping[str, int]) -> int:
    """The most entries that a contraction holds beside its operands: what earlier pairs have left, and the pair just made."""
    left: list[tuple[tuple[str, ...], int]] = [(axes, 0) for axes in operands]
    most = 0
    for i, j, kept in _order(operands, result, sizes):
        made = math.prod(sizes[a] for a in kept)
        most = max(most, made + sum(size for _, size in left))  # the pair is let go of only when it is contracted
        left = [*(operand for k, operand in enumerate(left) if k not in (i, j)), (kept, made)]
    return most


def _order(
    operands: Sequence[tuple[str, ...]], result: tuple[str, ...], sizes: Mapping[str, int]
) -> Iterator[tuple[int, int, tuple[str, ...]]]:
    """The pairs to contract, with the axes that each leaves; what a pair makes goes to the end of the list."""
    left = list(operands)
    while len(left) > 1:
        i, j = min(combinations(range(len(left)), 2), key=lambda pair: _price(left, pair, result, sizes))
        rest = [axes for k, axes in enumerate(left) if k not in (i, j)]
        kept = _kept(left, (i, j), result) if rest else result
        left = [*rest, kept]
        yield i, j, kept


def _kept(left: Sequence[tuple[str, ...]], pair: tuple[int, int], result: tuple[str, ...]) -> tuple[str, ...]:
    needed = set(result).union(*(axes for k, axes in enumerate(left) if k not in pair))
    both = dict.fromkeys((*left[pair[0]], *left[pair[1]]))
    # Axes of the result keep its order, so that the last step copies nothing.
    return tuple(sorted((a for a in both if a in needed), key=lambda a: result.index(a) if a in result else len(result)))


def _price(left: Sequence[tuple[str, ...]], pair: tuple[int, int], result: tuple[str, ...], sizes: Mapping[str, int]) -> tuple[bool, int]:
    kept, first, second = (math.prod(sizes[a] for a in axes) for axes in (_kept(left, pair, result), left[pair[0]], left[pair[1]]))
    return kept > max(first, second), math.prod(sizes[a] for a in {*left[pair[0]], *left[pair[1]]})


def _pair(first: Named, second: Named, kept: tuple[str, ...]) -> Named:
    number = {axis: k for k, axis in enumerate(dict.fromkeys((*first[1], *second[1])))}
    lists = ([number[a] for a in axes] for axes in (first[1], second[1], kept))
    one, two, out = lists
    return np.einsum(first[0], one, second[0], two, out), kept


def _single(array: np.ndarray, axes: tuple[str, ...], result: tuple[str, ...]) -> np.ndarray:
    number = {axis: k for k, axis in enumerate(axes)}
    return np.einsum(array, [number[a] for a in axes], [number[a] for a in result])
