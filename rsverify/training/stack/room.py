"""Memory for saved activations where the caller does not say how much: enough for every core, a share of what is free."""

from __future__ import annotations

import math
from pathlib import Path

import torch

LEAST = 64 << 20
"""Bytes. Of small configurations as many go through at once as fit here: more would save calls, but leave the cache."""
SHARE = 4
"""A quarter of what is free beside factors, gradients and moments: the caller wants memory too."""

CGROUPS = (
    ("memory.max", "memory.current", "memory.stat"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
)
"""Bound, use and parts of a container's memory, in either version of the kernel's files."""
CACHED = ("active_file", "inactive_file")
"""Parts of what is used that the system gives back when asked, as in MemAvailable."""


def available_bytes(device: torch.device, *, cgroup: Path = Path("/sys/fs/cgroup")) -> float:
    """Memory that can still be had on the device, within a container's bound; infinite where the system does not say."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    try:
        with open("/proc/meminfo") as file:
            lines = dict(line.split(":", 1) for line in file)
        found = float(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        found = math.inf
    for bound, used, parts in CGROUPS:
        try:
            most, now = (float((cgroup / name).read_text()) for name in (bound, used))
            rows = dict(line.split() for line in (cgroup / parts).read_text().splitlines())
        except (OSError, ValueError):  # no container, or no bound: "max"
            continue
        found = min(found, most - now + sum(float(rows.get(name, 0)) for name in CACHED))
    return max(found, 0.0)


def activation_room(*, device: torch.device, configurations: int, bytes_each: int, kept: int = 0) -> int:
    """Bytes that the saved activations of all workers together may take.

    On a CPU `LEAST`, or what one configuration on each core needs: a core without memory for one would stand idle. On a GPU, where large
    chunks are fast, all of the share. Never more than the share of what is free, unless that is below `LEAST`.

    Args: configurations and the bytes that each saves for its backward pass; kept is what factors, gradients and moments will take.
    """
    share = max(LEAST, (available_bytes(device) - kept) / SHARE)
    wanted = share if device.type == "cuda" else max(LEAST, bytes_each * min(torch.get_num_threads(), configurations))
    return int(min(wanted, share))
