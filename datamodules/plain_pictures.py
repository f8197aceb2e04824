"""Pictures as a network wants them, without annotations: for a model that is asked about the data of another."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import lightning.pytorch as pl

from datamodules.dataset import Batch, PictureDataset
from datamodules.input_reader import InputReader
from datamodules.loaders import make_loader
from datamodules.options import Loader
from datamodules.sampler import GlobalBatchSampler
from datamodules.skipped import Skipped

__all__ = ["plain_batches"]


def plain_batches(
    paths: Sequence[str],
    contract: Mapping[str, Any],
    *,
    batch_size: int,
    loader: Loader = Loader(),
    trainer: pl.Trainer | None = None,
) -> Iterator[Batch]:
    """This process's share of the pictures, in order, read as the input contract says (see docs/batch.md).

    What cannot be read has ``valid`` false. LoupeError where nothing can be read.

    Args:
        paths: Picture files; `index` counts along them.
        contract: That of the network which is asked.
        batch_size: Pictures in a batch of this process, at most.
        loader: For the number of worker processes.
        trainer: Whose processes share the pictures; None: there is one.
    """
    world, rank = (trainer.world_size, trainer.global_rank) if trainer else (1, 0)
    dataset = PictureDataset(paths, reader=InputReader(contract), skipped=Skipped(paths))
    sampler = GlobalBatchSampler(len(paths), batch_size=batch_size * world, world=world, rank=rank)
    yield from make_loader(dataset, sampler, Loader(num_workers=loader.num_workers), trainer)
