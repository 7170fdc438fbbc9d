"""Uniform factors drawn by the kernels, bit by bit what numpy draws from the same stream, many of them in one call.

A draw by numpy holds the interpreter, so that threads which draw at once wait for one another; a call of a kernel does not.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence

from rsverify.training.native.build import Kernels


class Draw(ctypes.Structure):
    """`rsv_uniform_draw` of philox.h."""

    _fields_ = [
        ("key", ctypes.c_uint64 * 2),
        ("count", ctypes.c_int64),
        ("scale", ctypes.c_double),
        ("to", ctypes.c_void_p),
    ]

    @classmethod
    def of(cls, key: bytes, *, count: int, scale: float, to: int) -> Draw:
        """`count` entries at the address `to`, uniform on [-scale, scale), from the stream of that key (`streams.stream_key`)."""
        return cls((ctypes.c_uint64 * 2)(*struct.unpack("=2Q", key)), count, scale, to)


def draw_uniform(kernels: Kernels, draws: Sequence[Draw]) -> None:
    """Carry out the draws in one call."""
    if draws:
        function, given = kernels.call("uniform", len(draws), (Draw * len(draws))(*draws))
        function(*given)
