"""A frozen linear layer with named slots, each the factors of one adapter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

if TYPE_CHECKING:
    from rsverify.testing.mutants.reference.kit import Kit

Factors = Mapping[str, Tensor]


class Slot(nn.Module):
    """One adapter of a layer: trained and frozen factors, rank, alpha, the user's scale s."""

    def __init__(self, trained: Factors, frozen: Factors, rank: int, alpha: float) -> None:
        super().__init__()
        self.rank, self.alpha, self.s = rank, float(alpha), 1.0
        self.trained = tuple(trained)
        for name, value in trained.items():
            self.register_parameter(name, nn.Parameter(value.detach().clone()))
        for name, value in frozen.items():
            self.register_buffer(name, value.detach().clone())

    def factors(self) -> dict[str, Tensor]:
        return {**dict(self.named_parameters()), **dict(self.named_buffers())}


class Adapted(nn.Module):
    """A frozen linear layer with named slots, one of them active; `kept` is the base's weight and bias while merged."""

    def __init__(self, base: nn.Linear, kit: Kit) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.kit = kit
        self.slots = nn.ModuleDict()
        self.active = "default"
        self.kept: tuple[Tensor, Tensor | None] | None = None
        self.memory: dict[str, Any] = {}
        """Where mutants keep what they should not."""

    @property
    def slot(self) -> Any:
        return self.slots[self.active]

    @property
    def pristine(self) -> Tensor:
        """The base weight without any merge."""
        return self.base.weight if self.kept is None else self.kept[0]

    def forward(self, x: Tensor) -> Tensor:
        return self.kit.forward(self, x)
