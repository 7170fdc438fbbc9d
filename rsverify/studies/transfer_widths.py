"""The widths of the layers that a transfer speaks of: given, a model's, or none, where every rank is far below them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rsverify.errors import InputError

if TYPE_CHECKING:
    import torch

Widths = tuple[int, int]
"""(d_in, d_out) of a layer."""


def layer_widths(
    *, d_in: int | None = None, d_out: int | None = None, width: int | None = None, model: str | torch.nn.Module | None = None
) -> tuple[Widths, ...]:
    """Each pair of widths once: those given, or of every linear of a model that adapters go on; none where nothing is given.

    Args: width stands for both d_in and d_out; model is a module, a folder with a config.json, or a hub name: no weights are read.
    Raises: InputError for widths given twice, in part, or that are no whole numbers from 1.
    """
    for name, value in (("d_in", d_in), ("d_out", d_out), ("width", width)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise InputError(f"{name}={value!r}; expected a whole number from 1")
    ways = {"width": width is not None, "d_in and d_out": d_in is not None or d_out is not None, "model": model is not None}
    given = [name for name, present in ways.items() if present]
    if len(given) > 1:
        raise InputError(f"the widths are given by {' and by '.join(given)}; expected one of width, d_in with d_out, model")
    if model is not None:
        return _of_model(model)
    if width is not None:
        return ((width, width),)
    if d_in is None and d_out is None:
        return ()
    if d_in is None or d_out is None:
        missing = "d_in" if d_in is None else "d_out"
        raise InputError(f"{missing} is missing beside d_in={d_in}, d_out={d_out}; give both, or width for a square layer")
    return ((d_in, d_out),)


def _of_model(model: str | torch.nn.Module) -> tuple[Widths, ...]:
    import torch

    from rsverify.interop.transformers import match_targets
    from rsverify.training.adapters.attach import linear_at

    if isinstance(model, str):
        from rsverify.interop.skeleton import skeleton

        model = skeleton(model, dtype=torch.float32).model
    shapes = {tuple(linear_at(model, name).weight.shape) for name in match_targets(model, "all-linear")}
    return tuple(sorted((d_in, d_out) for d_out, d_in in shapes))
