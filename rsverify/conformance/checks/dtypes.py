"""What a layer of each floating type computes, in that type and as exactly as it allows, and what moves with it to another."""

from __future__ import annotations

import torch

from rsverify.conformance.bench import TALL, Bench, close, named, tensors, tolerance, transplant
from rsverify.conformance.elsewhere import Elsewhere, LeftBehind
from rsverify.conformance.outcomes import Skip, Wrong
from rsverify.conformance.registry import check

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


@check("structure")
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


@check("structure")
def check_dtype_float32(bench: Bench) -> str | None:
    """In float32 the output is float32, and that of the same factors in float64 up to rounding."""
    return _against_float64(bench, torch.float32)


@check("structure")
def check_dtype_bfloat16(bench: Bench) -> str | None:
    """In bfloat16 the output is bfloat16, and that of the same factors in float64 up to rounding."""
    return _against_float64(bench, torch.bfloat16)


@check("persistence")
def check_dtype_moves(bench: Bench) -> str | None:
    """Moving the module to another dtype moves all that it computes with."""
    if bench.dtype is not torch.float64:
        raise Skip("it cannot compute in float64: there is no dtype to move from")
    x = bench.x(TALL, dtype=torch.float32)
    bench.trained(dtype=torch.float32)(x)
    built = bench.trained()
    expected = built(bench.x(TALL))
    built.module.to(torch.float32)
    try:
        found = built(x)
    except RuntimeError as error:
        raise Wrong(
            f"after .to(float32) it still computes with a float64 tensor, one that is neither parameter nor buffer: {error}"
        ) from error
    if not close(found.double(), expected, built, dtype=torch.float32):
        raise Wrong("after .to(float32) it computes another function")
    return None


@check("structure")
def check_device_moves(bench: Bench) -> str | None:
    """Moving the module moves all that it computes with: nothing is left behind on the old device."""
    built = bench.trained()
    built.module.eval()
    place = Elsewhere()
    place.move(built.module)
    left = [name for name, value in tensors(built.module).items() if value.numel() and not place.holds(value)]
    if left:
        raise Wrong(f"{named(left)} stay on the CPU when the module is moved")
    x = place.mark(bench.x(TALL).clone())
    try:
        with torch.no_grad(), place:
            y = built.module(x)
    except LeftBehind as error:
        raise Wrong(f"after a move it computes with a tensor that is neither parameter nor buffer: {error}") from error
    if not place.holds(y):
        raise Wrong("after a move the output is still on the CPU")
    return None
