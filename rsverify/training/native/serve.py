"""Whether the native kernels serve a task."""

from __future__ import annotations

from dataclasses import replace

import torch

from rsverify.training.model.decoder import Decoder
from rsverify.training.model.task import Task
from rsverify.training.native import build, choice


def decoder_for(task: Task, *, dtype: torch.dtype) -> Decoder | None:
    """The task's model for the kernels; None where they do not compute what the task does, are the slower way, or there are none."""
    kernels = build.kernels(dtype)  # asked first, for every task: a build that there is not is refused before any work
    decoder = task.decoder(task, dtype) if task.decoder is not None and kernels is not None else None
    if decoder is None or kernels is None or not choice.is_faster(d=decoder.d, lanes=kernels.lanes, itemsize=dtype.itemsize):
        return None
    return replace(decoder, lanes=kernels.lanes)
