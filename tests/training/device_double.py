"""A device that is none: tensors that compute on the CPU, refuse to meet the host's, and count what the host reads of them.

`torch.device(NAME)` stands where CUDA would: code sees a device that is not the CPU, and what would be an error or a wait on a GPU is
one here. A tensor of the device holds a plain tensor in `inner`; `__torch_dispatch__` computes with those. Ops that need a real
GPU's memory (`data_ptr`) have none.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils import _pytree as pytree
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "mimic"
READS = {
    "aten::_local_scalar_dense": "a number", "aten::is_nonzero": "a truth", "aten::equal": "a truth", "aten::nonzero": "a shape",
    "aten::nonzero_numpy": "a shape", "aten::masked_select": "a shape", "aten::_unique2": "a shape", "aten::unique_dim": "a shape",
    "aten::unique_consecutive": "a shape", "aten::repeat_interleave": "a shape", "aten::bincount": "a shape", "aten::allclose": "a truth",
}  # fmt: skip
"""Ops whose answer the host waits for on a GPU, and what it waits for."""
CROSSING = ("aten::copy_", "aten::_to_copy", "aten::_copy_from", "aten::_copy_from_and_resize")
"""Ops that may take tensors of both sides: copies, which are counted where they go to the host."""


class Mixed(AssertionError):
    """A tensor of the host met one of the device."""


@dataclass
class Reads:
    """What the host has read of the device: op by op, with the line that asked."""

    places: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        return len(self.places)


_watching: list[Reads] = []


@contextmanager
def counted() -> Iterator[Reads]:
    """Counts the reads of the host while it is open."""
    reads = Reads()
    _watching.append(reads)
    try:
        yield reads
    finally:
        _watching.remove(reads)


def _read(what: str) -> None:
    if not _watching:
        return
    frames = [frame for frame in traceback.extract_stack() if "/rsverify/" in frame.filename or "/tests/" in frame.filename]
    place = next((f"{f.filename}:{f.lineno} {f.line}" for f in reversed(frames) if f.filename != __file__), "?")
    for reads in _watching:
        reads.places.append(f"{what} at {place}")


class OnDevice(torch.Tensor):
    """A tensor of the device; `inner` is the plain tensor that holds its numbers."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> OnDevice:
        made = torch.Tensor._make_wrapper_subclass(
            cls, inner.size(), strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype, layout=inner.layout,
            device=torch.device(NAME, 0), requires_grad=False,
        )  # fmt: skip
        made.inner = inner
        return made

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"OnDevice({self.inner!r})"

    @property
    def data(self) -> OnDevice:
        return self.detach()

    @data.setter
    def data(self, value: OnDevice) -> None:
        torch.Tensor.data.__set__(self, value)
        self.inner = value.inner

    def untyped_storage(self) -> Any:
        return self.inner.untyped_storage()

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def numpy(self, *, force: bool = False) -> Any:
        if not force:
            raise TypeError(f"can't convert {NAME} device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first.")
        return self.detach().cpu().numpy()

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self.numpy()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _compute(func, args, kwargs or {})


def _compute(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    name = func.name().partition(".")[0]
    tensors = [value for value in pytree.arg_tree_leaves(*args, **kwargs) if isinstance(value, torch.Tensor)]
    strangers = [value for value in tensors if not isinstance(value, OnDevice)]
    if name in READS or (name == "aten::index" and any(t is not None and t.dtype == torch.bool for t in args[1])):
        _read(f"{name} ({READS.get(name, 'a shape')})")
    if name not in CROSSING:
        for value in strangers:
            if value.dim() > 0:
                raise Mixed(f"{name}: a tensor of the host, shape {tuple(value.shape)}, met one of the device")
    target = kwargs.get("device")
    leaves = target is not None and torch.device(target).type != NAME
    if (leaves and torch.device(target).type == "cpu") or (name == "aten::copy_" and not isinstance(args[0], OnDevice)):
        _read(f"{name} (a copy to the host)")
    inner_args, inner_kwargs = pytree.tree_map_only(OnDevice, lambda value: value.inner, (args, kwargs))
    if target is not None and not leaves:
        inner_kwargs["device"] = torch.device("cpu")
    result = func(*inner_args, **inner_kwargs)
    if leaves:
        return result.clone() if any(result is value for value in pytree.tree_leaves(inner_args)) else result
    written = _written(func, args, kwargs)
    if written is not None:
        for value in written if isinstance(written, tuple) else (written,):
            if not isinstance(value, OnDevice):
                continue
            if value.shape != value.inner.shape or value.stride() != value.inner.stride():  # as squeeze_ does, or arange into an empty one
                torch.Tensor.data.__set__(value, OnDevice(value.inner))
        return written
    return pytree.tree_map_only(torch.Tensor, OnDevice, result)


def _written(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """The arguments that an op writes to and returns, in the order of its returns; None where it returns something new."""
    schema = func._schema
    if not any(r.alias_info is not None and r.alias_info.is_write for r in schema.returns):
        return None
    names = [argument.name for argument in schema.arguments]
    given = dict(zip(names, args, strict=False)) | kwargs
    aliased = [(a.name, a.alias_info.before_set) for a in schema.arguments if a.alias_info is not None]
    written = tuple(next(given[name] for name, alias in aliased if alias & r.alias_info.before_set) for r in schema.returns)
    return written[0] if len(written) == 1 else written


def _empty(size: Any, *, dtype: Any = None, memory_format: Any = None, **_: Any) -> OnDevice:
    return OnDevice(torch.empty(size, dtype=dtype or torch.get_default_dtype(), memory_format=memory_format or torch.contiguous_format))


def _empty_strided(size: Any, stride: Any, *, dtype: Any = None, **_: Any) -> OnDevice:
    return OnDevice(torch.empty_strided(size, stride, dtype=dtype or torch.get_default_dtype()))


def _copy_from(source: torch.Tensor, target: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
    """The copy of `torch.tensor(numbers, device=...)`, which torch makes below `__torch_dispatch__`."""
    if not isinstance(target, OnDevice):
        _read("aten::_copy_from (a copy to the host)")
    plain = [value.inner if isinstance(value, OnDevice) else value for value in (target, source)]
    plain[0].copy_(plain[1])
    return target


_library: torch.library.Library | None = None


def device() -> torch.device:
    """The device, registered with torch at the first call."""
    global _library
    if _library is None:
        _setup_privateuseone_for_python_backend(rename=NAME)
        _library = torch.library.Library("aten", "IMPL")
        _library.impl("empty.memory_format", _empty, "PrivateUse1")
        _library.impl("empty_strided", _empty_strided, "PrivateUse1")
        _library.impl("_copy_from", _copy_from, "PrivateUse1")
    return torch.device(NAME, 0)
