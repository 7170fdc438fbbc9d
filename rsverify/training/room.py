"""Memory for saved activations where the caller does not say how much: enough for every core, a share of what is free."""

from __future__ import annotations

import math

import torch

LEAST = 64 << 20
"""Bytes. Of small configurations as many go through at once as fit here: more would save calls, but leave the cache."""
SHARE = 4
"""A quarter of what is free: factors, gradients and the caller want memory too."""


def available_bytes(device: torch.device) -> float:
    """Memory that can still be had on the device; infinite where the system does not say."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    try:
        with open("/proc/meminfo") as file:
            lines = dict(line.split(":", 1) for line in file)
        return float(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return math.inf


def activation_room(*, device: torch.device, configurations: int, bytes_each: int) -> int:
    """Bytes that the saved activations of all workers together may take.

    On a CPU `LEAST`, or what one configuration on each core needs: a core without memory for one would stand idle. On a GPU, where large
    chunks are fast, all of the share. Never more than the share of what is free, unless that is below `LEAST`.

    Args: configurations and the bytes that each saves for its backward pass.
    """
    share = max(LEAST, available_bytes(device) / SHARE)
    wanted = share if device.type == "cuda" else max(LEAST, bytes_each * min(torch.get_num_threads(), configurations))
    return int(min(wanted, share))
