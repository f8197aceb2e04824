"""The dataset behind every loader: asked for a list of draws, it returns a whole batch."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors

from datamodules.augment import Transform, seeded
from datamodules.geometry import Fit
from datamodules.images import UnreadableError
from datamodules.input_reader import InputReader
from datamodules.sampler import Draw
from datamodules.skipped import Skipped
from errors import LoupeError

__all__ = ["Batch", "PictureDataset", "SampleError", "Target"]

Batch = dict[str, Tensor]


class Target(ABC):
    """Reads what a task must learn for one sample, moved to where the picture lies in the network input."""

    @abstractmethod
    def __call__(self, index: int, fit: Fit) -> dict[str, Tensor]:
        """The sample's part of the batch; tv_tensors follow the picture through the augmentation."""

    def finish(self, sample: dict[str, Tensor]) -> dict[str, Tensor]:
        """The sample in the types and units of docs/batch.md, once the augmentation has moved it."""
        return sample


class SampleError(LoupeError):
    """A user's mistake met in a worker process.

    DataLoader raises a worker's exception again as `type(error)(text)` with a traceback inside the text (torch 2.15,
    `ExceptionWrapper.reraise`); the user must read the message alone.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message.rpartition(f"{type(self).__name__}: ")[2].strip())


class PictureDataset(Dataset[Batch]):
    """Pictures of one part of the data.

    Args:
        paths: picture files.
        reader: makes the network's input of them.
        target: what the task adds; None in prediction.
        augment: random change of training samples.
        seed: with epoch and position it decides every random number.
        skipped: remembers what cannot be read; None: that is an error.
        replaces: what cannot be read is replaced by the next sample of the part that can be; otherwise a padding sample
            stands for it.
    """

    def __init__(
        self,
        paths: Sequence[str],
        *,
        reader: InputReader,
        target: Target | None = None,
        augment: Transform | None = None,
        seed: int = 0,
        skipped: Skipped | None = None,
        replaces: bool = False,
    ) -> None:
        self.paths = paths
        self.reader = reader
        self.target = target
        self.augment = augment
        self.seed = seed
        self.skipped = skipped
        self.replaces = replaces

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, draws: list[Draw]) -> Batch:
        try:
            samples = [self._sample_or_next(draw) for draw in draws]
        except LoupeError as error:
            raise SampleError(str(error)) from None
        return {key: torch.stack([sample[key] for sample in samples]) for key in samples[0]}

    def _sample_or_next(self, draw: Draw) -> dict[str, Tensor]:
        for step in range(len(self)):
            instead = replace(
                draw, index=(draw.index + step) % len(self), valid=draw.valid and (self.replaces or not step)
            )
            try:
                return self._sample(instead)
            except UnreadableError:
                if self.skipped is None:
                    raise
                self.skipped.add(instead.index)
        raise LoupeError(f"none of the {len(self)} pictures can be read, {self.paths[draw.index]} among them")

    def _sample(self, draw: Draw) -> dict[str, Tensor]:
        sample, fit = self.reader.sample(self.paths[draw.index])
        if self.target is not None:
            sample |= self.target(draw.index, fit)
        if self.augment is not None:
            sample = self._augmented(sample, draw)
        if self.target is not None:
            sample = self.target.finish(sample)
        sample["index"] = torch.tensor(draw.index)
        sample["valid"] = torch.tensor(draw.valid)
        return sample

    def _augmented(self, sample: dict[str, Tensor], draw: Draw) -> dict[str, Tensor]:
        assert self.augment is not None
        # v2 treats the first plain tensor as an image where it finds no tv_tensor, so only tv_tensors go in
        moving: dict[str, Any] = {"image": tv_tensors.Image(sample["image"])}
        moving |= {key: value for key, value in sample.items() if isinstance(value, tv_tensors.TVTensor)}
        with seeded(self.seed, draw.epoch, draw.position):
            moved = self.augment(moving)
        return sample | {key: value.as_subclass(Tensor) for key, value in moved.items()}
