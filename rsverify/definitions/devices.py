"""Names of devices: one that means nothing, or that this machine has not, is refused before any work."""

from __future__ import annotations

import re

from rsverify.errors import InputError

DEVICE = re.compile(r"(cpu)(?::0)?|(cuda)(?::([0-9]{1,4}))?")
EXPECTED = "expected cpu, cuda or cuda:<index>"


def refuse_device(device: object) -> None:
    """Refuse a device that is not there; torch is loaded only to ask for a CUDA device.

    Raises: InputError for a name that means nothing, a kind that is not supported, or a device that torch does not see.
    """
    name = DEVICE.fullmatch(str(device))
    if name is None:
        raise InputError(f"device={str(device)!r} is not a device that rsverify computes on; {EXPECTED}")
    if name[2] is None:
        return
    import torch

    if not torch.cuda.is_available():
        raise InputError(
            f"device={str(device)!r} is not there: torch sees no CUDA device; use --device cpu, or install a CUDA build of torch"
        )
    count = torch.cuda.device_count()
    if int(name[3] or 0) >= count:
        raise InputError(f"device={str(device)!r} is not there: torch sees {count} CUDA device{'s' if count > 1 else ''}, counted from 0")
