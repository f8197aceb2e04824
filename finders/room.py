"""How much memory a search may take, and how it is told that there is no more."""

import errno
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import torch
from lightning.pytorch.utilities.memory import is_oom_error

__all__ = ["is_out_of_memory", "room_left"]

#: The share of the memory that is free which a search may take: the rest is for what comes later in a run.
_SHARE = 0.9
#: What says so where Lightning's own look (2.6) does not know it: oneDNN and the C++ library, Windows, MPS, cuBLAS.
_SAYS = (
    "bad_alloc",
    "not enough memory",
    "out of memory",
    "cannot allocate memory",
    "cublas_status_alloc_failed",
    "could not create a memory",
    "could not create a primitive",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this, or what it was raised from, is a lack of memory.

    >>> is_out_of_memory(RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"))
    True
    >>> is_out_of_memory(RuntimeError("shape mismatch"))
    False
    """
    seen: BaseException | None = error
    while seen is not None:
        text = str(seen).lower()
        if isinstance(seen, MemoryError) or is_oom_error(seen) or any(said in text for said in _SAYS):
            return True
        if isinstance(seen, OSError) and seen.errno == errno.ENOMEM:
            return True
        seen = seen.__cause__ or seen.__context__
    return False


@contextmanager
def room_left(device: torch.device) -> Generator[None]:
    """Within, asking for nearly all of the memory that is free fails; a run shall have some to spare.

    On a CPU nothing else would fail: Linux promises memory that it has not, and then ends a process that uses it. So
    there the process's address space is limited (RLIMIT_AS); elsewhere than on Linux nothing is done for a CPU.
    """
    match device.type:
        case "cuda":
            free, total = torch.cuda.mem_get_info(device)
            room = free + torch.cuda.memory_reserved(device)
            torch.cuda.set_per_process_memory_fraction(min(1.0, _SHARE * room / total), device)
            try:
                yield
            finally:
                torch.cuda.set_per_process_memory_fraction(1.0, device)
        case "cpu" if (available := _available_bytes()) is not None:
            import resource  # which Windows has not

            soft, hard = resource.getrlimit(resource.RLIMIT_AS)
            used = _address_space_bytes()
            room = available if soft == resource.RLIM_INFINITY else min(available, max(0, soft - used))
            limit = used + int(_SHARE * room)
            resource.setrlimit(resource.RLIMIT_AS, (limit if hard < 0 else min(limit, hard), hard))
            try:
                yield
            finally:
                resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        case _:
            yield


def _available_bytes() -> int | None:
    """What this machine and this container have left, None where nobody says."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        (free,) = (int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, IndexError):
        return None
    try:
        group = Path("/sys/fs/cgroup")
        limit, used = ((group / name).read_text().strip() for name in ("memory.max", "memory.current"))
        return min(free, max(0, int(limit) - int(used)))
    except (OSError, ValueError):  # no such control group, or "max": no limit
        return free


def _address_space_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
