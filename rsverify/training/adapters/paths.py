"""In which order the factors of a contraction meet: the cheapest of all orders of pairs, counted in multiplications."""

from __future__ import annotations

import itertools
import math
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

Axes = tuple[str, ...]


@dataclass(frozen=True)
class Path:
    """Pairs to contract, one after another: places among the operands left, and an equation of torch.einsum for each.

    A pair is taken out and its product put at the end. `cost` counts multiplications of one configuration.
    """

    names: tuple[str, ...]
    pairs: tuple[tuple[int, int], ...]
    equations: tuple[str, ...]
    cost: int


def path_of(axes: Mapping[str, Axes], result: Axes, sizes: Mapping[str, int], *, shared: frozenset[str] = frozenset()) -> Path:
    """The cheapest order of pairs that turns the named operands into the result, for a stack of configurations.

    Args: axes of each operand; shared names operands that all configurations have in common, which have no axis of configurations.
    """
    letters = dict(zip(dict.fromkeys(axis for own in (*axes.values(), result) for axis in own), string.ascii_lowercase, strict=False))
    cost, steps = _search(tuple(axes.values()), result, tuple(sizes.items()))
    operands = [("" if name in shared else "Z", own) for name, own in axes.items()]
    pairs, equations = [], []
    if len(operands) == 1:
        ((stack, own),) = operands
        return Path(tuple(axes), (), (_word(stack, own, letters) + "->Z" + "".join(letters[axis] for axis in result),), 0)
    for i, j in steps:
        (stack_a, a), (stack_b, b) = operands[i], operands[j]
        rest = [own for k, own in enumerate(operands) if k not in (i, j)]
        stays = _stays(a, b, [own for _, own in rest], result)
        stack = "Z" if "Z" in (stack_a, stack_b) else ""
        equations.append(f"{_word(stack_a, a, letters)},{_word(stack_b, b, letters)}->{_word(stack, stays, letters)}")
        pairs.append((i, j))
        operands = [*rest, (stack, stays)]
    return Path(tuple(axes), tuple(pairs), tuple(equations), cost)


def contract(path: Path, tensors: Mapping[str, Tensor]) -> Tensor:
    """The contraction along its path. Shapes: tensors (configurations, *axes), a shared one (*axes); result (configurations, *result)."""
    operands = [tensors[name] for name in path.names]
    if not path.pairs:
        return torch.einsum(path.equations[0], *operands)
    for (i, j), equation in zip(path.pairs, path.equations, strict=True):
        product = torch.einsum(equation, operands[i], operands[j])
        operands = [*(operand for k, operand in enumerate(operands) if k not in (i, j)), product]
    return operands[0]


@lru_cache(maxsize=1024)
def _search(operands: tuple[Axes, ...], result: Axes, sizes: tuple[tuple[str, int], ...]) -> tuple[int, tuple[tuple[int, int], ...]]:
    """As `_cheapest`: the linears of a model ask the same again and again."""
    return _cheapest(operands, result, dict(sizes))


def _cheapest(operands: tuple[Axes, ...], result: Axes, sizes: Mapping[str, int]) -> tuple[int, tuple[tuple[int, int], ...]]:
    """Every order of pairs is tried: adapters have at most five operands, the data included."""
    if len(operands) == 1:
        return 0, ()
    best: tuple[int, tuple[tuple[int, int], ...]] | None = None
    for i, j in itertools.combinations(range(len(operands)), 2):
        rest = tuple(own for k, own in enumerate(operands) if k not in (i, j))
        cost = math.prod(sizes[axis] for axis in {*operands[i], *operands[j]})
        if best is not None and cost >= best[0]:
            continue
        more, steps = _cheapest((*rest, _stays(operands[i], operands[j], rest, result)), result, sizes)
        if best is None or cost + more < best[0]:
            best = cost + more, ((i, j), *steps)
    assert best is not None
    return best


def _stays(a: Axes, b: Axes, rest: Sequence[Axes], result: Axes) -> Axes:
    """The axes that a product of two keeps: those that others or the result still need. In the result's order, where all are its own."""
    needed = {*result, *(axis for own in rest for axis in own)}
    kept = [axis for axis in dict.fromkeys((*a, *b)) if axis in needed]
    return result if not rest else tuple(kept)


def _word(stack: str, axes: Axes, letters: Mapping[str, str]) -> str:
    return stack + "".join(letters[axis] for axis in axes)
