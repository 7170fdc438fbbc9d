"""The numbers of the data that exact formulas name: norms, power sums, and contractions over a reshaped sample or signal.

A moment of an adapter meets the data only through sums over index classes: on a single axis power sums such as
S22 = sum_i x_i**2 x'_i**2; where the adapter reads x reshaped over a group "(b q)", also sums such as
G_x00_x01_y10_y11 = sum over b0, b1, q0, q1 of X[b0,q0] X[b0,q1] Y[b1,q0] Y[b1,q1]. A name says how to compute its number.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from functools import cache
from itertools import combinations_with_replacement, product
from typing import TYPE_CHECKING, Any

from rsverify.errors import InputError

if TYPE_CHECKING:
    import numpy as np

LETTER = {"x": "x", "x'": "y", "v": "v"}
"""How a data vector is written in a name: sample x, probe x', signal v."""

DIGITS = string.digits + string.ascii_lowercase

Atoms = Sequence[tuple[str, tuple[int, ...]]]
"""Tensors with the numbers of their indices."""


def canonical(labels: Sequence[Any], atoms: Atoms) -> tuple[tuple[Any, ...], tuple[tuple[str, tuple[int, ...]], ...]]:
    """One form for all diagrams that differ only by the numbering of their indices.

    In words: refine the colours of indices by what they are joined to until nothing changes; where that leaves indices
    alike, try each of them first and keep the smallest form. Two diagrams have equal forms exactly when they are isomorphic.
    """
    incident: list[list[tuple[int, int]]] = [[] for _ in labels]
    for a, (_, indices) in enumerate(atoms):
        for position, i in enumerate(indices):
            incident[i].append((a, position))
    whole = sorted(atoms)

    def refined(colours: list[int]) -> list[int]:
        while True:
            seen = [
                (colour, tuple(sorted((atoms[a][0], p, tuple(colours[j] for j in atoms[a][1])) for a, p in incident[i])))
                for i, colour in enumerate(colours)
            ]
            place = {value: k for k, value in enumerate(sorted(set(seen)))}
            after = [place[value] for value in seen]
            if len(place) == len(set(colours)):
                return after
            colours = after

    def swaps(i: int, j: int) -> bool:
        other = {i: j, j: i}
        return sorted((name, tuple(other.get(k, k) for k in indices)) for name, indices in atoms) == whole

    def smallest(colours: list[int]) -> tuple[Any, ...]:
        colours = refined(colours)
        cells: dict[int, list[int]] = {}
        for i, colour in enumerate(colours):
            cells.setdefault(colour, []).append(i)
        alike = min((colour for colour, cell in cells.items() if len(cell) > 1), default=None)
        if alike is None:
            order = sorted(range(len(labels)), key=colours.__getitem__)
            return tuple(labels[i] for i in order), tuple(sorted((name, tuple(colours[i] for i in indices)) for name, indices in atoms))
        tried: list[int] = []
        for i in cells[alike]:
            if not any(swaps(i, j) for j in tried):
                tried.append(i)
        return min(smallest([2 * colour - (k == i) for k, colour in enumerate(colours)]) for i in tried)

    first = {label: k for k, label in enumerate(sorted(set(labels)))}
    return smallest([first[label] for label in labels]) if labels else ((), tuple(whole))


def power_sum(a: int, b: int) -> str:
    """The name of sum over i of x_i**a x'_i**b."""
    return f"S{a}{b}" if max(a, b) < 10 else f"S{a}_{b}"


def signal_sum(power: int) -> str:
    """The name of sum over j of v_j**power."""
    return f"V{power}"


def name_of(atoms: Atoms) -> str:
    """The name of a contraction of data tensors over one group of axes; equal contractions have equal names.

    In words: each tensor's letter with the number of its index on every axis of its group.
    """
    if all(indices == atoms[0][1] for _, indices in atoms):
        a, b, v = (sum(name == vector for name, _ in atoms) for vector in ("x", "x'", "v"))
        return signal_sum(v) if v else power_sum(a, b)
    # An index runs over the axis at its place in the group; what that axis is called must not matter.
    axis_of = {i: axis for _, indices in atoms for axis, i in enumerate(indices)}
    axes, atoms = canonical([axis_of[i] for i in range(len(axis_of))], atoms)
    number: dict[int, str] = {}
    for _, indices in atoms:
        for i in indices:
            if i not in number:
                used = sum(axes[j] == axes[i] for j in number)
                if used >= len(DIGITS):
                    raise InputError(f"a contraction with more than {len(DIGITS)} indices on axis {axes[i]!r} has no name")
                number[i] = DIGITS[used]
    return "G_" + "_".join(LETTER[name] + "".join(number[i] for i in indices) for name, indices in atoms)


def atoms_of(name: str) -> list[tuple[str, tuple[int, ...]]] | None:
    """The data tensors of a name with the number of their index on every axis; None where it is no such name."""
    vectors = {letter: vector for vector, letter in LETTER.items()}
    if name.startswith("G_"):
        words = name[2:].split("_")
        if all(word and word[0] in vectors and all(c in DIGITS for c in word[1:]) for word in words):
            return [(vectors[word[0]], tuple(DIGITS.index(c) for c in word[1:])) for word in words]
        return None
    powers = name[1:].split("_") if "_" in name else list(name[1:])
    if name[:1] == "S" and len(powers) == 2 and all(power.isdecimal() for power in powers):
        return [("x", (0,))] * int(powers[0]) + [("x'", (0,))] * int(powers[1])
    if name[:1] == "V" and name[1:].isdecimal():
        return [("v", (0,))] * int(name[1:])
    return None


SAID = {
    "gamma": "the rule's value at r",
    "lr": "learning rate",
    "x_norm2": "|x|**2 of the sample",
    "v_norm2": "|v|**2 of the loss gradient at the layer's output",
    "x_norm1": "sum of |x_i|",
    "v_norm1": "sum of |v_j|",
    "x_sign": "sum of sign(x_i) x'_i",
    "cosine": "cosine between sample and probe",
    "d_in": "width of the input",
    "d_out": "width of the output",
}
"""What a formula's names mean, where they are not sums over the data."""


def described(name: str) -> str:
    """What a name of a formula stands for, in words; empty where the name says it (r)."""
    if name in SAID:
        return SAID[name]
    if name.startswith("n_"):
        return f"size of axis {name[2:]}"
    atoms = atoms_of(name)
    if atoms is None:
        return ""
    if name.startswith("G_"):
        return "a contraction of sample, probe and signal reshaped as the adapter reads them"
    index = "j" if name[0] == "V" else "i"
    factors = [f"{vector[0]}_{index}".replace("x_i", "x'_i" if vector == "x'" else "x_i") for vector, _ in atoms]
    powers = [f"{factor}**{factors.count(factor)}" if factors.count(factor) > 1 else factor for factor in dict.fromkeys(factors)]
    return f"sum over {index} of {' '.join(powers)}"


def value(
    name: str, x: np.ndarray, x_probe: np.ndarray, v: np.ndarray, *, rows: Sequence[int] | None = None, columns: Sequence[int] | None = None
) -> float:
    """The number that a name stands for.

    Args: rows, columns are the sizes of the axes that make up the groups of v and of x, first running slowest; by default one axis.
    Raises: InputError where it is no name of an invariant, or the group has another number of axes.
    """
    import numpy as np

    atoms = atoms_of(name)
    if atoms is None:
        raise InputError(f"invariant={name!r}; expected a power sum (S22, V4) or a contraction such as G_x00_x01_y10_y11")
    if name[0] != "G":
        vectors = {"x": x, "x'": x_probe, "v": v}
        return float(np.prod([vectors[vector] for vector, _ in atoms], axis=0).sum()) if atoms else float(len(x))
    shapes = {"x": columns or (len(x),), "x'": columns or (len(x),), "v": rows or (len(v),)}
    tensors = {"x": np.reshape(x, shapes["x"]), "x'": np.reshape(x_probe, shapes["x'"]), "v": np.reshape(v, shapes["v"])}
    operands: list[Any] = []
    for vector, indices in atoms:
        if len(indices) != len(shapes[vector]):
            raise InputError(f"invariant={name!r} reads {vector} over {len(indices)} axes, but it was given as a group of {shapes[vector]}")
        # einsum counts indices over all axes at once: index k of axis p gets a number of its own.
        operands += [tensors[vector], [p + len(indices) * k for p, k in enumerate(indices)]]
    numbers = sorted({i for operand in operands[1::2] for i in operand})
    compact = {i: k for k, i in enumerate(numbers)}
    operands[1::2] = [[compact[i] for i in operand] for operand in operands[1::2]]
    return float(np.einsum(*operands, [], optimize=True))


@cache
def common_names(group: int, vectors: tuple[str, ...]) -> tuple[str, ...]:
    """Every contraction of two or four data tensors over a group of so many axes; none for a single axis, where power sums say it.

    Norms, inner products and power sums have names of their own and are left out.
    """
    if group == 1:
        return ()
    found: set[str] = set()
    for order in (2, 4):
        for chosen in combinations_with_replacement(vectors, order):
            for ways in product(_classes(order), repeat=group):
                count = [len(set(way)) for way in ways]
                atoms = [(vector, tuple(sum(count[:axis]) + ways[axis][k] for axis in range(group))) for k, vector in enumerate(chosen)]
                if _connected(sum(count), atoms):
                    found.add(name_of(atoms))
    return tuple(sorted(name for name in found if name[0] == "G"))


def _classes(count: int) -> list[tuple[int, ...]]:
    """Restricted growth strings: the class of each of `count` things."""
    ways: list[tuple[int, ...]] = [()]
    for _ in range(count):
        ways = [(*way, k) for way in ways for k in range(max(way, default=-1) + 2)]
    return ways


def _connected(count: int, atoms: Atoms) -> bool:
    reached, grown = {atoms[0][1][0]}, True
    while grown:
        wider = {i for _, indices in atoms if reached & set(indices) for i in indices}
        grown, reached = not wider <= reached, reached | wider
    return len(reached) == count
