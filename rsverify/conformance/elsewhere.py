"""A move to another device, played on the CPU: which tensors went along, and whether any that stayed is computed with.

A device without data (torch's "meta") would do, but its first call imports torch's compiler (a second), and it stops at every forward
pass that reads a value. Here values stay: a tensor that moved is known by its storage, and answers "meta" when asked for its device.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

PLACE = torch.device("meta")
"""What moved tensors answer when they are asked for their device."""

BETWEEN = {Tensor.copy_, Tensor.__getitem__, Tensor.__setitem__, Tensor.index_put_, torch.result_type}
"""What may take tensors of two devices; the first one says where the result is."""


class LeftBehind(Exception):
    """What would fail on a real device; the message names the operation and the shape."""


class Elsewhere(TorchFunctionMode):
    """While it is entered, what `move` and `mark` went over is on another device than all other tensors."""

    def __init__(self) -> None:
        super().__init__()
        self._moved: dict[int, Tensor] = {}
        """By the address of the storage; the tensors are held, so that no address is used again."""

    def move(self, module: nn.Module) -> None:
        """Move a module as `Module.to` does: by what it applies to its tensors."""
        module._apply(lambda value: self.mark(value.detach().clone()))

    def mark(self, value: Tensor) -> Tensor:
        """A tensor that is elsewhere from now on."""
        self._moved[_address(value)] = value
        return value

    def holds(self, value: Tensor) -> bool:
        """Whether a tensor is elsewhere."""
        return _address(value) in self._moved

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        kwargs = dict(kwargs or {})
        given = [value for value in _tensors((args, kwargs)) if value.numel()]
        moved = [value for value in given if self.holds(value)]
        # One number may go with tensors of any device.
        stayed = [value for value in given if value.ndim and not self.holds(value)]
        if func in DEVICE_OF:
            return DEVICE_OF[func] if moved else func(*args, **kwargs)
        if func in (Tensor.numpy, Tensor.__array__) and moved:
            raise LeftBehind(f"{func.__name__} reads a tensor of shape {tuple(moved[0].shape)} that is not on the CPU; call .cpu() first")
        if func in (Tensor.to, Tensor.type_as, Tensor.cpu):
            return self._converted(func, args, kwargs)
        if moved and stayed and func not in BETWEEN:
            raise LeftBehind(f"{getattr(func, '__name__', func)} takes one of shape {tuple(stayed[0].shape)} that stayed on the CPU")
        here = func in BETWEEN and not self.holds(args[0])
        asked = _is_place(kwargs.get("device"))
        if asked:
            kwargs["device"] = torch.device("cpu")
        result = func(*args, **kwargs)
        if asked or (moved and not here):
            for value in _tensors(result):
                self.mark(value)
        return result

    def _converted(self, func: Any, args: Any, kwargs: Mapping[str, Any]) -> Tensor:
        """A copy on the device that was asked for: a named one, another tensor's, or that where the tensor is."""
        wanted = [value for value in (*args[1:], *kwargs.values()) if isinstance(value, str | torch.device | Tensor)]
        elsewhere = self.holds(args[0]) and func is not Tensor.cpu
        for value in wanted:
            elsewhere = self.holds(value) if isinstance(value, Tensor) else _is_place(value)
        plain = [torch.device("cpu") if _is_place(value) else value for value in args]
        named = {key: torch.device("cpu") if _is_place(value) else value for key, value in kwargs.items()}
        result = func(*plain, **named) if self.holds(args[0]) == elsewhere else func(*plain, **named).clone()
        return self.mark(result) if elsewhere else result


DEVICE_OF: dict[Any, Any] = {Tensor.device.__get__: PLACE, Tensor.is_meta.__get__: True, Tensor.is_cpu.__get__: False}  # type: ignore[attr-defined]
"""What asks for a tensor's device, and what a moved one answers."""


def _address(value: Tensor) -> int:
    """Of the storage; a sparse tensor is where its values are."""
    return (value._values() if value.layout is torch.sparse_coo else value).untyped_storage().data_ptr()


def _is_place(value: Any) -> bool:
    return isinstance(value, str | torch.device) and torch.device(value) == PLACE


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _tensors(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _tensors(inner)
