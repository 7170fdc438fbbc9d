"""Where the training witness computes: a device that is not there is refused before any work."""

from __future__ import annotations

import torch

from rsverify.errors import InputError

DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16}


def as_device(device: str | torch.device) -> torch.device:
    """The device of that name.

    Raises: InputError where the name means nothing or torch sees no such device.
    """
    try:
        found = torch.device(device)
    except RuntimeError:
        raise InputError(f"device={str(device)!r} is not a device; expected cpu, cuda or cuda:<index>") from None
    if found.type == "cuda":
        if not torch.cuda.is_available():
            raise InputError(f"device={str(device)!r} is not available: torch sees no CUDA device; use --device cpu")
        if (found.index or 0) >= torch.cuda.device_count():
            raise InputError(f"device={str(device)!r} is not available: torch sees {torch.cuda.device_count()} CUDA device(s)")
    elif found.type != "cpu":
        raise InputError(f"device={str(device)!r} is not supported; expected cpu, cuda or cuda:<index>")
    return found


def as_dtype(dtype: str | torch.dtype) -> torch.dtype:
    """The floating type of that name.

    Raises: InputError for any other than those of DTYPES.
    """
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype not in DTYPES:
        raise InputError(f"dtype={dtype!r} is not known; expected one of {', '.join(DTYPES)}")
    return DTYPES[dtype]
