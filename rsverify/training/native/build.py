"""The kernels of one real type as Python calls them, and which build of them: for which processor, by which compiler."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from functools import cache
from threading import Lock
from typing import Any

import torch

from rsverify.errors import InputError
from rsverify.training.native.compiler import COMPILERS, X86, NoLibrary
from rsverify.training.native.library import Library, library

SWITCH = "RSVERIFY_NATIVE"
"""Environment variable: `off`, `on`, or a build (see `Build.parse`)."""
OFF, ON = ("off", "0", "no", "false"), ("on", "1", "yes", "true", "")
PROCESSORS = ("native", *(("x86-64-v2", "x86-64-v3", "x86-64-v4") if X86 else ()))
"""This machine's own, and the levels of x86-64 that compilers know: vectors of 16, 32 and 64 bytes."""

REALS = {torch.float32: "float", torch.float64: "double"}
C_REALS = {torch.float32: ctypes.c_float, torch.float64: ctypes.c_double}


@dataclass(frozen=True)
class Build:
    """What the kernels are compiled for, and by which compiler: None for the first that there is."""

    processor: str = "native"
    compiler: str | None = None

    @property
    def text(self) -> str:
        return f"{self.compiler}:{self.processor}" if self.compiler else self.processor

    @classmethod
    def parse(cls, text: str) -> Build | None:
        """The build that a text names, as `x86-64-v3` or `clang:native`; None where it is `off`.

        Raises: InputError for anything else, with what there is.
        """
        word = text.strip().lower()
        if word in OFF:
            return None
        compiler, colon, processor = word.rpartition(":")
        build = cls(processor if processor not in ON else "native", compiler if colon else None)
        if build.processor not in PROCESSORS or (colon and (compiler not in COMPILERS or processor in ON)):
            raise InputError(
                f"{SWITCH}={text!r}; expected off, on, or what the kernels are to be compiled for: {', '.join(PROCESSORS)}, "
                f"also by one compiler, as {COMPILERS[1]}:{PROCESSORS[-1]} ({', '.join(COMPILERS)})"
            )
        return build


class Factor(ctypes.Structure):
    """`rsv_factor` of linear.h."""

    _fields_ = [("trained", ctypes.c_int64), *((name, ctypes.c_void_p) for name in ("w", "g", "m", "s", "lr"))]


class Part(ctypes.Structure):
    """`rsv_part` of linear.h."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("lo", "hi", "rank", "merged", "stride")),
        *((name, ctypes.c_void_p) for name in ("gamma", "kept", "adam")),
        ("A", Factor),
        ("B", Factor),
    ]  # fmt: skip


class Kernels:
    """The kernels of one dtype. `call` makes a kernel and its arguments into what `Program` runs; `size` asks for a number of REALs."""

    def __init__(self, library: ctypes.CDLL, dtype: torch.dtype) -> None:
        self.library, self.dtype = library, dtype
        self.lanes: int = ctypes.c_int64.in_dll(library, "rsv_lanes").value  # numbers in a vector

    def call(self, name: str, *given: Any) -> tuple[Any, tuple[Any, ...]]:
        """A function and its arguments as C takes them: tensors by address, None as NULL, ints as int64, flags as int, floats as REAL."""
        return getattr(self.library, f"rsv_{name}"), tuple(self._as_c(value) for value in given)

    def size(self, name: str, *given: int) -> int:
        function = getattr(self.library, f"rsv_{name}")
        function.restype = ctypes.c_int64
        return int(function(*(ctypes.c_int64(value) for value in given)))

    def _as_c(self, value: Any) -> Any:
        if value is None or isinstance(value, torch.Tensor):
            return ctypes.c_void_p(None if value is None else value.data_ptr())
        if isinstance(value, bool):
            return ctypes.c_int(value)
        if isinstance(value, int):
            return ctypes.c_int64(value)
        return C_REALS[self.dtype](value) if isinstance(value, float) else value


def chosen() -> Build | None:
    """The build that the environment asks for; None where it asks for none. Raises: InputError, as `Build.parse`."""
    return Build.parse(os.environ.get(SWITCH, ""))


def kernels(dtype: torch.dtype, *, build: Build | None = None) -> Kernels | None:
    """The kernels of a dtype, of a build or of the environment's; None where they are switched off, there are none for it, or `remark`
    says why."""
    build = build or chosen()
    if build is None or dtype not in REALS:
        return None
    made = _library(REALS[dtype], build)
    return Kernels(made.loaded, dtype) if isinstance(made, Library) else None


def remark(dtype: torch.dtype, *, build: Build | None = None) -> str | None:
    """A note for a run: why the kernels that were wanted cannot be had, or had to be compiled anew; None where there is nothing to say."""
    build = build or chosen()
    if build is None or dtype not in REALS:
        return None
    made = _library(REALS[dtype], build)
    return made.remark if isinstance(made, Library) else f"trained without the kernels, which is slower: {made}"


_LOCK = Lock()


def _library(real: str, build: Build) -> Library | str:
    """The loaded library, or the reason why there is none."""
    with _LOCK:  # threads that start together compile once
        return _make(real, build)


@cache
def _make(real: str, build: Build) -> Library | str:
    try:
        return library(real, march=build.processor, name=build.compiler)
    except NoLibrary as error:
        return str(error)
