"""How many bytes a training step holds at its peak, read off the step itself, without running it.

On the meta device tensors have shapes and no data, so a model of any size takes a step in a moment. A ledger notes every
storage that is made and freed on the way, and so sees what autograd keeps between forward and backward.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Ledger(TorchDispatchMode):
    """While it is entered, notes the bytes of every storage made by an operation, until it is freed.

    `events` holds (storage, bytes) in order, negative where freed.

    Args: known are tensors that were there before and outlive the ledger; an operation may return a view of one.
    """

    def __init__(self, known: Sequence[Tensor] = ()) -> None:
        super().__init__()
        self.events: list[tuple[int, int]] = []
        self._known = {tensor.untyped_storage()._cdata for tensor in known}
        self._live: dict[int, int] = {}
        self._count = 0
        self._names: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(made):
            if isinstance(leaf, Tensor):
                self._note(leaf)
        return made

    def _note(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        address = storage._cdata
        if address in self._names or address in self._known:
            return
        self._count += 1  # addresses are used again, numbers are not
        self._names[address] = number = self._count
        self._live[number] = size = storage.nbytes()
        self.events.append((number, size))
        weakref.finalize(storage, self._freed, address, number)

    def _freed(self, address: int, number: int) -> None:
        self._names.pop(address, None)
        self.events.append((number, -self._live.pop(number)))

    def number_of(self, tensor: Tensor) -> int | None:
        """The number of a tensor's storage in the events; None where it was made outside."""
        return self._names.get(tensor.untyped_storage()._cdata)


@dataclass(frozen=True)
class Bill:
    """Bytes at the peak of a training step, by what holds them.

    `activations` is all that is left: what autograd keeps for the backward pass, and temporaries.
    """

    base: int
    adapters: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        return self.base + self.adapters + self.gradients + self.optimizer + self.activations


MOMENTS: dict[str, int] = {
    "sgd": 0, "normalized-sgd": 0, "signsgd": 0, "momentum": 1, "lion": 1, "rmsprop": 1, "adagrad": 1, "muon": 1, "muon-torch": 1,
    "adam": 2, "adamw": 2,
}  # fmt: skip
"""Tensors of the size of a factor that an optimizer keeps; Adafactor keeps its row and column means."""


def optimizer_bytes(optimizer: str, factors: Sequence[Tensor]) -> int:
    """Bytes that an optimizer keeps between steps for these factors, in their dtype."""
    if optimizer == "adafactor":
        entries = sum(f.shape[0] + f.shape[1] if f.ndim == 2 else f.numel() for f in factors)
        return entries * factors[0].element_size() if factors else 0
    return MOMENTS[optimizer] * sum(f.numel() * f.element_size() for f in factors)


def bill_of_step(
    model: nn.Module, factors: Sequence[nn.Parameter], loss: Callable[[], Tensor], *, optimizer: str, keep_gradients: bool
) -> Bill:
    """The bill of one training step of a model with adapters on it, all on the meta device.

    Args: factors are the trained parameters; loss runs the model; keep_gradients says that gradients stay allocated from
        step to step (accumulation) instead of being made anew by each backward pass.
    """
    trained = {id(factor) for factor in factors}
    standing = [t for t in (*model.parameters(), *model.buffers()) if id(t) not in trained]
    base = _bytes(standing)
    adapters = _bytes(factors)
    states = optimizer_bytes(optimizer, factors)
    for factor in factors:
        factor.grad = torch.empty_like(factor) if keep_gradients else None
    whole = adapters if keep_gradients else 0
    with Ledger([*standing, *factors, *(factor.grad for factor in factors if factor.grad is not None)]) as ledger:
        loss().backward()
    mine = {ledger.number_of(factor.grad) for factor in factors if factor.grad is not None} - {None}
    now = of_gradients = peak = gradients = 0
    for number, size in ledger.events:
        now += size
        of_gradients += size if number in mine else 0
        if now > peak:
            peak, gradients = now, of_gradients
    for factor in factors:
        factor.grad = None
    bill = Bill(base, adapters, whole + gradients, states, peak - gradients)
    # The update makes one temporary of the size of the factors, when all gradients stand and no activation does.
    update = Bill(base, adapters, adapters, states, adapters)
    return bill if bill.total >= update.total else update


def _bytes(tensors: Sequence[Tensor]) -> int:
    """Bytes of the storages behind tensors, each once: tied weights are held once."""
    storages = {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())
