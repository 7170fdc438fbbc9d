"""Where the training witness computes: a device that is not there is refused before any work."""

from __future__ import annotations

import torch

from rsverify.definitions.devices import refuse_device
from rsverify.errors import InputError

DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16}


def as_device(device: str | torch.device) -> torch.device:
    """The device of that name.

    Raises: InputError where the name means nothing or torch sees no such device.
    """
    refuse_device(device)
    return torch.device(device)


def as_dtype(dtype: str | torch.dtype) -> torch.dtype:
    """The floating type of that name.

    Raises: InputError for any other than those of DTYPES.
    """
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype not in DTYPES:
        raise InputError(f"dtype={dtype!r} is not known; expected one of {', '.join(DTYPES)}")
    return DTYPES[dtype]
