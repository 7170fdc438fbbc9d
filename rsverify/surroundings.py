"""A known state of the process around our own work, and the caller's own state again afterwards.

A caller may have torch in inference mode, autocast on, another default dtype or device, warnings as errors. None of that may change an
answer, and no answer may change it: generators, dtype, threads, filters are as they were when the work is done.
"""

from __future__ import annotations

import random
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np

_ONE_AT_A_TIME = threading.RLock()
"""The state is the process's: two threads that both set and restore it would leave each other's."""


@contextmanager
def plain_surroundings(*, threads: int | None = None) -> Iterator[None]:
    """Torch and numpy as a fresh process has them, gradients on; the caller's state again at the end.

    Args: threads of torch inside, where the work is too small for several to help; None leaves their number.
    """
    import torch

    with _ONE_AT_A_TIME, ExitStack() as stack:
        stack.enter_context(_generators_restored())
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("default")
        stack.enter_context(np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"))
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        if torch.get_default_device().type == "meta":  # it computes nothing; on any other device the work is done where the caller asks
            stack.enter_context(torch.device("cpu"))
        stack.callback(torch.set_default_dtype, torch.get_default_dtype())
        torch.set_default_dtype(torch.float32)
        precision = torch.get_float32_matmul_precision()
        if precision != "highest":
            stack.callback(torch.set_float32_matmul_precision, precision)
            torch.set_float32_matmul_precision("highest")
        before = torch.get_num_threads()
        stack.callback(lambda: torch.get_num_threads() == before or torch.set_num_threads(before))
        if threads is not None and before != threads:
            torch.set_num_threads(threads)
        yield


@contextmanager
def _generators_restored() -> Iterator[None]:
    """The generators that all share: torch's (an accelerator's where the program uses it), numpy's and Python's."""
    import torch

    accelerators = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    legacy, python = np.random.get_state(), random.getstate()  # noqa: NPY002  the caller's, kept and put back
    try:
        with torch.random.fork_rng(devices=accelerators):
            yield
    finally:
        np.random.set_state(legacy)  # noqa: NPY002
        random.setstate(python)
