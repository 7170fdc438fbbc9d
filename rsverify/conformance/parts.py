"""Layers made of several products: projections of a fused weight, experts. One part at a time, by setting the others' factors to zero."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from rsverify.conformance.bench import Bench, Built
from rsverify.conformance.outcomes import Wrong
from rsverify.conformance.subject import Part


def parts_of(bench: Bench, built: Built) -> Mapping[str, Part]:
    """The parts that the subject tells of a layer, their shapes checked.

    Raises: Wrong where they cannot be parts of that layer.
    """
    tell = bench.subject.parts
    assert tell is not None
    found = tell(built.module)
    if not isinstance(found, Mapping) or not found or not all(isinstance(part, Part) for part in found.values()):
        raise Wrong(f"parts returned {found!r}; expected a mapping from names to rv.Part, one for each product of the layer")
    for name, part in found.items():
        first, last = rows_of(built, part)
        if not 0 <= first < last <= built.layer.d_out:
            raise Wrong(f"part {name} has rows {first} to {last} of a weight of {built.layer.d_out} rows; expected first and last + 1")
        wanted = (last - first, part.rank), (part.rank, built.layer.d_in)
        shapes = tuple(part.up.shape), tuple(part.down.shape)
        if shapes != wanted:
            raise Wrong(f"part {name} of rank {part.rank} on rows {first} to {last} has factors {shapes}; expected {wanted}")
    return found


def rows_of(built: Built, part: Part) -> tuple[int, int]:
    """First row and last + 1."""
    return part.rows or (0, built.layer.d_out)


def product(part: Part) -> Tensor:
    """What the part adds to its rows at scale 1, in float64."""
    return part.weight * part.up.detach().double() @ part.down.detach().double()


@contextmanager
def alone(parts: Mapping[str, Part], name: str | None) -> Iterator[None]:
    """Only the part of that name acts, or none of them: the others' up-projections are zero meanwhile."""
    kept = {other: part.up.detach().clone() for other, part in parts.items()}
    with torch.no_grad():
        for other, part in parts.items():
            if other != name:
                part.up.zero_()
    try:
        yield
    finally:
        with torch.no_grad():
            for other, part in parts.items():
                part.up.copy_(kept[other])
