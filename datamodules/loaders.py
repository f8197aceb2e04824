"""A DataLoader over one part of the data, as the settings want it."""

import logging
import time
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Any

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader, Dataset

from datamodules.dataset import Batch
from datamodules.options import Loader
from datamodules.sampler import GlobalBatchSampler
from datamodules.workers import count_workers, leave_signals_to_parent, signals_held

__all__ = ["WaitingLoader", "make_loader"]

log = logging.getLogger(__name__)


class WaitingLoader(DataLoader[Batch]):
    """A DataLoader that knows how long it kept the training waiting, and what else an optimizer step holds.

    Where the sampler cuts steps into micro-batches, the first of each has ``ahead``: the others of its step, in order,
    less their pictures (see docs/batch.md). For that as many batches as a step has lie ready.

    Attributes:
        waited_s: seconds that were spent in asking for batches.
    """

    waited_s = 0.0

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        accumulate: int = getattr(self.sampler, "accumulate", 1)
        done: int = getattr(self.sampler, "start", 0)  # before the sampler forgets where it goes on
        with signals_held():
            begun = super().__iter__()
        batches = self._timed(begun)
        return batches if accumulate == 1 else _looking_ahead(batches, accumulate, done % accumulate)

    def _timed(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        while True:
            began = time.perf_counter()
            try:
                batch = next(batches)
            except StopIteration:
                return
            finally:
                self.waited_s += time.perf_counter() - began
            yield batch


def _looking_ahead(batches: Iterator[Batch], accumulate: int, done: int) -> Iterator[Batch]:
    """The batches, the first of each step with ``ahead``; `done` of the first step are not among them any more."""
    size = accumulate - done
    ready = deque(islice(batches, size))
    left = 0
    while ready:
        batch: dict[str, Any] = {**ready.popleft()}
        if not left:
            left, size = size, accumulate
            batch["ahead"] = [
                {key: value for key, value in other.items() if key != "image"}
                for other in islice(ready, left - 1)
            ]
        left -= 1
        yield batch
        # One is drawn for one that is given: worker processes have as even a time as without.
        ready.extend(islice(batches, accumulate - len(ready)))


def make_loader(
    dataset: Dataset[Any],
    sampler: GlobalBatchSampler,
    options: Loader,
    trainer: pl.Trainer | None,
    *,
    one_ahead: bool = False,
) -> WaitingLoader:
    """Workers for the cores at hand, shared among the processes of `trainer`; page-locked memory for its GPU.

    With `one_ahead` each worker has one batch ready, whatever the options say: pictures may be as large as they like.
    """
    on_cpu = trainer is not None and trainer.strategy.root_device.type == "cpu"
    processes = trainer.num_devices if trainer else 1
    workers = count_workers(options.num_workers, processes=processes, on_cpu=on_cpu)
    if not workers and options.prefetch != Loader.prefetch:
        log.warning("data.loader.prefetch=%d has no effect without worker processes", options.prefetch)
    pin = options.pin_memory
    if pin == "auto":
        pin = trainer is not None and trainer.strategy.root_device.type == "cuda"
    return WaitingLoader(
        dataset,
        sampler=sampler,
        batch_size=None,  # the sampler's lists are the batches; Lightning wraps batch samplers, and not this
        num_workers=workers,
        prefetch_factor=(1 if one_ahead else options.prefetch) if workers else None,
        persistent_workers=workers > 0,
        worker_init_fn=leave_signals_to_parent if workers else None,
        pin_memory=pin,
        # memory is shared with forked processes alone
        multiprocessing_context="fork" if workers and options.cache == "memory" else None,
        # its own, so that making an iterator does not move the random state that dropout goes by
        generator=torch.Generator(),
    )
