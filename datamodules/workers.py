"""The processes that read pictures: how many, and which signals are not for them."""

import os
import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import lightning.pytorch as pl
import torch

from datamodules.options import Loader
from errors import LoupeError

__all__ = [
    "count_workers",
    "leave_signals_to_parent",
    "signals_held",
    "threads_beside_workers",
    "usable_cores",
]

#: With `auto`, worker processes of one training process at most.
_MOST = 16
#: Cores that compute for one that reads, where the CPU does both: it decodes 300 pictures a second and trains on 70.
_CORES_A_READER = 8
#: With fewer, all compute and read in turn: 73 pictures a second on two cores, 55 with one for each.
_CORES_TO_SHARE = 4


def usable_cores() -> int:
    """Cores that this process may use: its affinity, and the quota of its container."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):  # no such control group, or "max": no quota
        return cores


def count_workers(asked: int | Literal["auto"], *, processes: int = 1, on_cpu: bool = False) -> int:
    """Worker processes for each of `processes` training processes on this machine.

    `auto` leaves each a core. Where the CPU computes, ``on_cpu``, it takes a core in eight of four or more; or those
    that torch's threads leave, but no more than there are threads.

    >>> count_workers(3)
    3
    """
    if asked == "auto":
        cores = usable_cores() // max(1, processes)
        if on_cpu:
            few = 0 if cores < _CORES_TO_SHARE else max(1, cores // _CORES_A_READER)
            threads = torch.get_num_threads()
            return min(_MOST, max(few, min(threads, cores - threads)))
        return max(0, min(_MOST, cores - 1))
    if asked < 0:
        raise LoupeError(f"data.loader.num_workers is {asked}; it is 0, a positive number or auto")
    return asked


def threads_beside_workers(loader: Loader, trainer: pl.Trainer) -> int:
    """Threads that each training process on the CPU may compute with, so that with its workers they fill its cores."""
    processes = max(1, trainer.num_devices)
    workers = count_workers(loader.num_workers, processes=processes, on_cpu=True)
    return max(1, min(torch.get_num_threads(), usable_cores() // processes - workers))


@contextmanager
def signals_held() -> Generator[None]:
    """Have Ctrl-C and SIGTERM wait: a process that is begun within holds them too, until it knows what to do."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_signals_to_parent(worker: int) -> None:
    """For a worker process: live on where Ctrl-C or SIGTERM comes to the whole process group, as from a terminal.

    The training process is asked too. It finishes its step with what the workers still read, and then ends them.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    if hasattr(
        signal, "sigwaitinfo"
    ):  # macOS has it not; a SIGTERM for the whole group ends the worker there
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    """End this process at a SIGTERM from its parent: multiprocessing sends it, and then waits without end."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)
