"""The dataset behind every loader: asked for a list of draws, it returns a whole batch."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors

from datamodules.augment import Transform, seeded
from datamodules.channels import collate
from datamodules.crops import RandomCrop
from datamodules.geometry import Fit
from datamodules.images import UnreadableError
from datamodules.input_reader import InputReader, as_sample
from datamodules.kept_samples import KeptSamples
from datamodules.mixing import Mixing
from datamodules.sampler import Draw
from datamodules.skipped import Skipped
from datamodules.targets import Target
from errors import LoupeError

__all__ = ["Batch", "PictureDataset", "SampleError"]

Batch = dict[str, Tensor]


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
        skipped: remembers what cannot be read; None: that is an error. In prediction a blank picture that is not valid
            stands for it.
        replaces: what cannot be read is replaced by the next sample of the part that can be; otherwise a padding sample
            stands for it.
        crop: random windows of training samples.
        mixing: which samples of a batch are to be mixed.
        kept: reads through a cache; not together with a crop or a region.
        full_size: samples also have what their target holds at the size of the picture.
        region: the fit of a sample's region of interest in place of that of its whole picture; crops lie inside of it.
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
        crop: RandomCrop | None = None,
        mixing: Mixing | None = None,
        kept: KeptSamples | None = None,
        region: Callable[[int, Fit], Fit] | None = None,
        full_size: bool = False,
    ) -> None:
        self.paths = paths
        self.reader = reader
        self.target = target
        self.augment = augment
        self.seed = seed
        self.skipped = skipped
        self.replaces = replaces
        self.crop = crop
        self.mixing = mixing
        self.kept = kept
        self.region = region
        self.full_size = full_size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, draws: list[Draw]) -> Batch:
        try:
            samples = [self._sample_or_next(draw) for draw in draws]
        except LoupeError as error:
            raise SampleError(str(error)) from None
        batch = {
            key: torch.stack([sample[key] for sample in samples]) for key in samples[0] if key != "image"
        }
        batch = {"image": collate([sample["image"] for sample in samples]), **batch}
        if self.mixing is not None:
            batch["mix"] = self.mixing.plan(draws, self.reader.size_hw)
        return batch

    def _sample_or_next(self, draw: Draw) -> dict[str, Tensor]:
        if self.target is None and self.skipped is not None:
            return self._sample_or_blank(draw, self.skipped)
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

    def _sample_or_blank(self, draw: Draw, skipped: Skipped) -> dict[str, Tensor]:
        """In prediction one odd file of many is no reason to end, and nothing has to be read in its place."""
        try:
            return self._sample(draw)
        except LoupeError:
            if draw.valid:
                skipped.add(draw.index)
        blank = torch.zeros(self.reader.in_channels, *self.reader.size_hw, dtype=torch.uint8)
        sample, _ = as_sample(blank, self.reader.fit(self.reader.size_hw))
        return sample | {"index": torch.tensor(draw.index), "valid": torch.tensor(False)}

    def _sample(self, draw: Draw) -> dict[str, Tensor]:
        sample = self._read(draw)
        if self.augment is not None:
            sample = self._augmented(sample, draw)
        if self.target is not None:
            sample = self.target.finish(sample)
            sample |= self.target.whole(draw.index) if self.full_size else {}
        sample["index"] = torch.tensor(draw.index)
        sample["valid"] = torch.tensor(draw.valid)
        return sample

    def _read(self, draw: Draw) -> dict[str, Tensor]:
        path = self.paths[draw.index]
        if self.kept is not None:
            return self.kept.sample(draw.index, path)
        sample, fit = self.reader.sample(path, window=self._window(draw))
        return sample if self.target is None else sample | self.target(draw.index, fit)

    def _window(self, draw: Draw) -> Callable[[Fit], Fit] | None:
        """What chooses the part of the picture that is seen; None: all of it is."""
        region = None if self.region is None else partial(self.region, draw.index)
        if self.crop is None:
            return region
        rng = np.random.default_rng([self.seed, draw.epoch, draw.position, 1])
        point = self.target.point(draw.index, rng) if self.target and self.crop.wants_point(rng) else None
        crop = partial(self.crop.plan, rng=rng, point_yx=point)
        return crop if region is None else lambda fit: crop(region(fit))

    def _augmented(self, sample: dict[str, Tensor], draw: Draw) -> dict[str, Tensor]:
        assert self.augment is not None
        # v2 treats the first plain tensor as an image where it finds no tv_tensor, so only tv_tensors go in
        moving: dict[str, Any] = {"image": tv_tensors.Image(sample["image"])}
        moving |= {key: value for key, value in sample.items() if isinstance(value, tv_tensors.TVTensor)}
        with seeded(self.seed, draw.epoch, draw.position):
            moved = self.augment(moving)
        return sample | {key: value.as_subclass(Tensor) for key, value in moved.items()}
