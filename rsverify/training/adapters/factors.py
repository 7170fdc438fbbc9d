"""The factors of many adapters of one rank on the same linears: each adapter one row of a flat buffer.

Row-major by adapter, so that gradient norms, learning rates and optimizer steps are operations on whole rows, while the factors of
one linear are strided views (adapters, ..., ...) that batched matrix products take as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from rsverify.training.adapters.forms import Form


@dataclass(frozen=True)
class Place:
    """Where a factor of one linear lies in a row: columns [start, stop), as a tensor of `shape`."""

    layer: str
    factor: str
    start: int
    shape: tuple[int, ...]

    @property
    def stop(self) -> int:
        return self.start + torch.Size(self.shape).numel()

    def of(self, buffer: Tensor) -> Tensor:
        """The factor of every row. Shapes: buffer (adapters, columns); result (adapters, *shape)."""
        return buffer[:, self.start : self.stop].unflatten(1, self.shape)


@dataclass(frozen=True)
class Views:
    """Shapes: A, grad_A (adapters, r, d_in); B, grad_B (adapters, d_out, r); gamma (adapters, 1, 1)."""

    A: Tensor
    B: Tensor
    grad_A: Tensor
    grad_B: Tensor
    gamma: Tensor


@dataclass
class Factors:
    """What the adapters of one rank and kind are made of, on the linears that they share.

    Args:
        names: of the factors in the order of the columns; trains says which of them move.
        pair: the names of an up-factor and a down-factor whose product is all that is added; None for any other kind, which acts by
            its `forms`, one a linear, with `fixed` tensors beside the factors: of every adapter, or one that all share.
        lr: the learning rate of each factor by its name.

    Shapes: w, the factors, and g, their gradients (adapters, columns); gamma (adapters, 1, 1); lr (adapters, 1).
    """

    rank: int
    names: tuple[str, ...]
    pair: tuple[str, str] | None
    places: dict[tuple[str, str], Place]
    columns: int
    w: Tensor
    gamma: Tensor
    lr: dict[str, Tensor]
    trains: dict[str, bool]
    acting: Tensor
    forms: Mapping[str, Form] = field(default_factory=dict)
    fixed: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    _g: Tensor | None = None
    _views: dict[tuple[str, int, int], Views] = field(default_factory=dict)

    @property
    def g(self) -> Tensor:
        """The gradients: memory that is taken when they are first asked for, as the native kernels may step along them unseen."""
        if self._g is None:
            self._g = torch.zeros_like(self.w)
        return self._g

    @property
    def size(self) -> int:
        return self.w.shape[0]

    @property
    def up(self) -> str:
        assert self.pair is not None
        return self.pair[0]

    @property
    def down(self) -> str:
        assert self.pair is not None
        return self.pair[1]

    @property
    def layers(self) -> tuple[str, ...]:
        return tuple(layer for layer, name in self.places if name == self.names[0])

    @property
    def trained(self) -> tuple[str, ...]:
        return tuple(name for name in self.names if self.trains[name])

    def adapts(self, layer: str) -> bool:
        return (layer, self.names[0]) in self.places

    def columns_of(self, factor: str) -> slice:
        """The columns of all factors of that name."""
        places = [place for (_, name), place in self.places.items() if name == factor]
        return slice(places[0].start, places[-1].stop)

    def views(self, layer: str, rows: slice) -> Views:
        """The two factors of a linear and their gradients for some rows of a pair: made once, as the buffers never move."""
        key = (layer, rows.start, rows.stop)
        if key not in self._views:
            down, up = self.places[layer, self.down], self.places[layer, self.up]
            A, B, grad_A, grad_B = (place.of(buffer)[rows] for buffer in (self.acting, self.g) for place in (down, up))
            self._views[key] = Views(A, B, grad_A, grad_B, self.gamma[rows].to(self.acting.dtype))
        return self._views[key]

    def refresh(self) -> None:
        """Bring the copy that acts in the base's dtype up to date; the factors themselves where the dtypes agree."""
        if self.acting is not self.w:
            self.acting.copy_(self.w)
