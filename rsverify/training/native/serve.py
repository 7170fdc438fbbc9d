"""Whether the native kernels serve a task."""

from __future__ import annotations

import torch

from rsverify.training.model.task import Task
from rsverify.training.native import build
from rsverify.training.native.decoder import Decoder


def decoder_for(task: Task, *, dtype: torch.dtype) -> Decoder | None:
    """The task's model for the kernels; None where they do not compute what the task does, or there are none."""
    if task.decoder is None or build.kernels(dtype) is None:
        return None
    return task.decoder(task, dtype)
