"""Matrix products on the CPU by the faster of two libraries that torch carries: oneDNN for large float32 ones, its BLAS for the rest.

On processors that MKL does not know by name its kernels leave half of the vector width unused, while oneDNN writes its own for
the instructions it finds; a call of it costs some ten microseconds, so that small products stay with BLAS. Which library takes a
product follows from its shape alone: equal inputs give equal numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

WORTH = 2_500_000
"""Operations from which oneDNN was the faster on an AMD EPYC (family 26): 512 x 128 x 16 took 19 us against 24, 64 x 128 x 64 took 15
against 12."""


def _onednn() -> tuple[Callable[..., Any], Callable[..., Any]] | None:
    """Inductor's own linear kernels, where this build of torch has them."""
    packet = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if torch.backends.mkldnn.is_available() else None
    return None if packet is None else (packet.default, packet.binary)


_LINEAR = _onednn()


def by_onednn(like: Tensor, operations: int) -> bool:
    """Whether a product of so many operations goes to oneDNN."""
    return operations >= WORTH and _LINEAR is not None and like.dtype == torch.float32 and like.device.type == "cpu"


def times(x: Tensor, w: Tensor, plus: Tensor | None = None) -> Tensor:
    """x w', with `plus` added, whose memory may be used up.

    Shapes: x (m, k), w (n, k), plus and result (m, n).
    """
    if _LINEAR is not None and by_onednn(x, 2 * x.shape[0] * x.shape[1] * w.shape[0]):
        return _LINEAR[0](x, w, None, "none", [], "") if plus is None else _LINEAR[1](x, plus, w, None, "add")
    return torch.mm(x, w.t()) if plus is None else plus.addmm_(x, w.t())


def batched(a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
    """a b of every pair, into `out` where one is given. Shapes: a (c, m, k), b (c, k, n), result (c, m, n)."""
    if a.shape[0] == 1 and by_onednn(a, 2 * a.shape[1] * a.shape[2] * b.shape[2]):
        found = times(a[0], b[0].t())[None]
        return found if out is None else out.copy_(found)
    return torch.bmm(a, b) if out is None else torch.bmm(a, b, out=out)


def add_batched(into: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """into + a b of every pair; `into` may be used up."""
    if a.shape[0] == 1 and by_onednn(a, 2 * a.shape[1] * a.shape[2] * b.shape[2]):
        return times(a[0], b[0].t(), plus=into[0])[None]
    return into.baddbmm_(a, b)
