"""What a layer of each floating type computes: in that type, and as exactly as it allows."""

from __future__ import annotations

import torch

from rsverify.conformance.bench import TALL, Bench, close, tolerance, transplant
from rsverify.conformance.registry import Skip, Wrong, check

REFUSALS = (TypeError, ValueError, NotImplementedError)


def _against_float64(bench: Bench, dtype: torch.dtype) -> str | None:
    try:
        built = bench.trained(dtype=dtype)
    except REFUSALS as error:
        raise Skip(f"it refuses to be built in {dtype}: {error}") from error
    x = bench.x(TALL, dtype=dtype)
    try:
        y = built(x)
    except RuntimeError as error:
        held = {str(p.dtype) for p in built.factors().values()}
        raise Wrong(f"a layer of {dtype} cannot be called: its factors are {', '.join(sorted(held))} ({error})") from error
    if y.dtype != dtype:
        raise Wrong(f"a layer of {dtype}, called on {dtype}, returns {y.dtype}")
    if bench.dtype is not torch.float64 or dtype is torch.float64:
        return None
    exact = bench.build()
    transplant(built, exact)
    expected = exact(x.double())
    if not close(y.double(), expected, built, dtype=max(dtype, torch.float32, key=lambda d: torch.finfo(d).eps)):
        off = float((y.double() - expected).abs().max())
        allowed = tolerance(built, y.double(), expected)
        raise Wrong(f"in {dtype} the output is off that of the same factors in float64 by {off:.2g}; rounding explains {allowed:.2g}")
    return None


@check()
def check_dtype_float64(bench: Bench) -> str | None:
    """In float64 a change of a factor by 1e-9 of its size shows: nothing inside is float32."""
    _against_float64(bench, torch.float64)
    built = bench.trained(dtype=torch.float64)
    x = bench.x(TALL, dtype=torch.float64)
    before = built(x)
    for name, factor in built.factors().items():
        kept = factor.detach().clone()
        direction, moved = bench.like(factor, name), []
        for step in (2.0**-30, 2.0**-10):
            with torch.no_grad():
                factor.copy_(kept + step * direction)
            moved.append((built(x) - before) / step)
        with torch.no_grad():
            factor.copy_(kept)
        # Both are the derivative along the factor, the second off by curvature times 2**-10; float32 loses the first altogether.
        off, size = float((moved[0] - moved[1]).norm()), float(moved[1].norm())
        if off > 0.05 * size:
            raise Wrong(
                f"a change of {name} by one part in 10**9 changes the output by {float(moved[0].norm()) / size:.2g} times what it should:"
                " float32 is used inside a float64 layer"
            )
    return None


@check()
def check_dtype_float32(bench: Bench) -> str | None:
    """In float32 the output is float32, and that of the same factors in float64 up to rounding."""
    return _against_float64(bench, torch.float32)


@check()
def check_dtype_bfloat16(bench: Bench) -> str | None:
    """In bfloat16 the output is bfloat16, and that of the same factors in float64 up to rounding."""
    return _against_float64(bench, torch.bfloat16)
