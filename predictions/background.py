"""Pictures encoded and written while the model goes on."""

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

__all__ = ["Background"]

T = TypeVar("T")
_MOST_THREADS = 4


class Background(Generic[T]):
    """Jobs in a few threads, of which only so many may wait; results come in the order of the jobs.

    Encoders let go of Python's lock, so that threads are enough. An error of a job is raised where its result would
    have come.

    Args:
        threads: How many; None: one for each usable core, at most four; 0: each job is done when it is given.
        waiting: How many jobs a thread may have before it, and with them their pictures in memory.
    """

    def __init__(self, threads: int | None = None, *, waiting: int = 8) -> None:
        self.threads = min(_MOST_THREADS, _cores()) if threads is None else threads
        self._most = max(1, self.threads) * waiting
        self._pool: ThreadPoolExecutor | None = None
        self._jobs: deque[Future[T]] = deque()
        self._results: list[T] = []

    def put(self, job: Callable[[], T]) -> None:
        """Have a job done; waits where too many wait already."""
        if not self.threads:
            self._results.append(job())
            return
        if self._pool is None:  # not before the first: worker processes are forked without threads
            self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="loupe-writer")
        while len(self._jobs) >= self._most:
            self._results.append(self._jobs.popleft().result())
        self._jobs.append(self._pool.submit(job))

    def results(self, *, all_of_them: bool = False) -> list[T]:
        """What was done since the last call; with ``all_of_them`` waits for the rest."""
        while self._jobs and (all_of_them or self._jobs[0].done()):
            self._results.append(self._jobs.popleft().result())
        results, self._results = self._results, []
        return results

    def close(self) -> list[T]:
        """End after an error: what was given is finished, a few pictures a thread; returns what went well."""
        if self._pool is not None:
            self._pool.shutdown(wait=True)
            self._pool = None
        done = [job for job in self._jobs if job.exception() is None]
        results = [*self._results, *(job.result() for job in done)]
        self._jobs.clear()
        self._results = []
        return results


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
