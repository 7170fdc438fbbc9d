"""An adapter that is not multilinear, around a multilinear core: which witness cannot speak of it and why, and how to build it.

DoRA divides by a norm, PiSSA starts from the base weight's own singular vectors: neither is a contraction of factors with
declared laws. Such an adapter is declared by two functions on torch tensors. `start` says what its factors and the base
weight are at init, `weight` which weight the layer then has. This module itself loads no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from rsverify.definitions.adapter import Adapter
from rsverify.definitions.laws import Law
from rsverify.errors import AdapterError, NotDerivable

if TYPE_CHECKING:
    from torch import Tensor

Tensors = Mapping[str, "Tensor"]
Start = Callable[..., tuple[Tensors, "Tensor"]]
"""start(W, drawn, *, gamma, rank) -> (factors, base): every factor at init, and the base weight that stays beside them.

`drawn` are the core's factors as its laws draw them, W the pretrained weight (d_out, d_in); neither may be written to."""
Weight = Callable[..., "Tensor"]
"""weight(base, factors, *, gamma, rank) -> the weight (d_out, d_in) that the layer has; differentiable in the factors."""
Count = Callable[[int, int, int], int]
"""parameters(r, d_in, d_out): number of trained entries."""


@dataclass(frozen=True)
class WrappedAdapter:
    """An adapter that only a torch module can express, with the multilinear core that can be derived.

    Args:
        core: the multilinear adapter inside; it is what one derives when the whole cannot be.
        silent: for each witness that cannot speak of the whole, one sentence why.
        start, weight, parameters: see `Start`, `Weight`, `Count`.
        trainable: names of the factors that training moves; all others that `start` returns are frozen.
        rule, source, counts, tags, note: as of `Adapter`.
        init_alone: whether nothing but its init keeps it from being its core.
    """

    name: str
    core: Adapter
    silent: Mapping[str, str]
    start: Start
    weight: Weight
    parameters: Count
    trainable: tuple[str, ...]
    rule: str = "alpha/r"
    source: str = ""
    counts: str = "rows of A"
    tags: frozenset[str] = frozenset()
    note: str = ""
    init_alone: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "silent", MappingProxyType(dict(self.silent)))
        object.__setattr__(self, "tags", frozenset(self.tags))

    def __hash__(self) -> int:
        return hash((self.name, self.core))

    @property
    def reason(self) -> str:
        """Why the symbolic witness cannot speak."""
        return self.silent["symbolic"]

    def with_init(self, **laws: Law) -> Adapter:
        """The multilinear adapter that this one is once laws describe its init, every factor's.

        Raises: NotDerivable where more than the init is not multilinear; AdapterError where a factor has no law.
        """
        if not self.init_alone:
            raise NotDerivable(f"of adapter {self.name!r}, {self.reason}, whatever its init", self.core)
        if missing := [name for name in self.core.laws if name not in laws]:
            raise AdapterError(
                f"adapter {self.name!r}: its init is no law, so one is needed for every factor; {', '.join(missing)} has none."
                f" As of its core: {', '.join(f'{name}={law.text()}' for name, law in self.core.laws.items())}"
            )
        return self.core.with_init(**laws).renamed(self.name)

    @property
    def init(self) -> str:
        """The core's laws as text; what `start` makes of them stands in `note`."""
        return self.core.init
