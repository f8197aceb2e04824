"""How many processes read pictures."""

import os
from pathlib import Path
from typing import Literal

from errors import LoupeError

__all__ = ["count_workers", "usable_cores"]


def usable_cores() -> int:
    """Cores that this process may use: its affinity, and the quota of its container."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):  # no such control group, or "max": no quota
        return cores


def count_workers(asked: int | Literal["auto"], *, processes: int = 1) -> int:
    """Worker processes for each of `processes` training processes on this machine; `auto` leaves each a core.

    >>> count_workers(3)
    3
    """
    if asked == "auto":
        return max(0, min(8, usable_cores() // max(1, processes) - 1))
    if asked < 0:
        raise LoupeError(f"data.loader.num_workers is {asked}; it is 0, a positive number or auto")
    return asked
