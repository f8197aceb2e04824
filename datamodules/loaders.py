"""A DataLoader over one part of the data, as the settings want it."""

import time
from collections.abc import Iterator
from typing import Any

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader, Dataset

from datamodules.dataset import Batch
from datamodules.options import Loader
from datamodules.sampler import GlobalBatchSampler
from datamodules.workers import count_workers

__all__ = ["WaitingLoader", "make_loader"]


class WaitingLoader(DataLoader[Batch]):
    """A DataLoader that knows how long it kept the training waiting.

    Attributes:
        waited_s: seconds that were spent in asking for batches.
    """

    waited_s = 0.0

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        batches = super().__iter__()
        while True:
            began = time.perf_counter()
            try:
                batch = next(batches)
            except StopIteration:
                return
            finally:
                self.waited_s += time.perf_counter() - began
            yield batch


def make_loader(
    dataset: Dataset[Any], sampler: GlobalBatchSampler, options: Loader, trainer: pl.Trainer | None
) -> WaitingLoader:
    """Workers for the cores at hand, shared among the processes of `trainer`; page-locked memory for its GPU."""
    workers = count_workers(options.num_workers, processes=trainer.num_devices if trainer else 1)
    pin = options.pin_memory
    if pin == "auto":
        pin = trainer is not None and trainer.strategy.root_device.type == "cuda"
    return WaitingLoader(
        dataset,
        sampler=sampler,
        batch_size=None,  # the sampler's lists are the batches; Lightning wraps batch samplers, and not this
        num_workers=workers,
        prefetch_factor=options.prefetch if workers else None,
        persistent_workers=workers > 0,
        pin_memory=pin,
        # memory is shared with forked processes alone
        multiprocessing_context="fork" if workers and options.cache == "memory" else None,
        # its own, so that making an iterator does not move the random state that dropout goes by
        generator=torch.Generator(),
    )
