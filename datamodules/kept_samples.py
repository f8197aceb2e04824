"""Samples that are decoded once: read from a cache where it has them, put there where it has not."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.cache import cache_folder
from datamodules.geometry import Fit
from datamodules.input_reader import InputReader, as_sample
from datamodules.options import Loader
from datamodules.picture_cache import PictureCache, Stamp, disk_cache, memory_cache, stamp_of
from datamodules.targets import Target
from datamodules.texts import Texts
from errors import LoupeError

__all__ = ["KeptSamples", "open_cache", "slots_of"]

_FORMAT = 1  # counts up when what is stored changes its meaning


class KeptSamples:
    """Reads the samples of one part through a cache; what comes out is what reading without it gives.

    Pictures deeper than 8 bits are not kept.

    Args:
        cache: of the whole data set.
        slots: the place of each sample of this part in it.
        reader: of pictures that are not there yet.
        target: of the part.
    """

    def __init__(self, cache: PictureCache, slots: np.ndarray, reader: InputReader, target: Target) -> None:
        self.cache = cache
        self.slots = slots
        self.reader = reader
        self.target = target

    def sample(self, index: int, path: str) -> dict[str, Tensor]:
        """The sample and its annotation, before augmentation."""
        stamp = stamp_of((path, *self.target.files(index)))  # first: a file may change while it is read
        slot = int(self.slots[index])
        kept = self.cache.get(slot, stamp)
        channels = self.reader.in_channels
        if kept is not None:
            planes, size_hw_px = kept
            sample, fit = as_sample(planes[:channels], self.reader.fit(size_hw_px))
            plane = planes[channels] if len(planes) > channels else None
        else:
            sample, fit = self.reader.sample(path)
            plane = self.target.plane(index, fit)
            self._put(slot, stamp, sample["image"], plane, fit)
        return sample | self.target(index, fit, plane)

    def _put(self, slot: int, stamp: Stamp, image: Tensor, plane: Tensor | None, fit: Fit) -> None:
        if image.dtype == torch.uint8:
            planes = image if plane is None else torch.cat([image, plane[None]])
            self.cache.put(slot, stamp, planes, fit.size_hw_px)


def open_cache(
    options: Loader, contract: Mapping[str, Any], paths: Sequence[str], *, mask_key: str | None
) -> PictureCache | None:
    """The cache that the settings want; None for none.

    Args:
        options: of the loader.
        contract: how pictures are read; other ways have caches of their own.
        paths: of all parts, in the order of the slots.
        mask_key: what the masks beside them depend on, None where there are none.
    """
    height, width = contract["image_size"]
    shape = (contract["in_channels"] + (mask_key is not None), height, width)
    limit = options.cache_limit_gb * 1e9
    if not limit > 0:
        raise LoupeError(f"data.loader.cache_limit_gb is {options.cache_limit_gb:g}; it must be above 0")
    match options.cache:
        case "none":
            if options.cache_limit_gb != Loader().cache_limit_gb:
                raise LoupeError(
                    "data.loader.cache_limit_gb is set and data.loader.cache is none; choose memory or disk"
                )
            return None
        case "memory":
            return memory_cache(len(paths), shape, limit)
        case "disk":
            text = json.dumps([_FORMAT, dict(contract), mask_key], sort_keys=True)
            key = hashlib.sha256(f"{text}\n{Texts.of(paths).digest()}".encode()).hexdigest()[:32]
            try:
                return disk_cache(cache_folder() / "pictures", key, len(paths), shape, limit)
            except OSError as error:
                raise LoupeError(
                    f"data.loader.cache=disk cannot write to {cache_folder()}: {error.strerror or error}; set the "
                    "environment variable LOUPE_CACHE to a folder that can be written"
                ) from error


def slots_of(all_paths: Sequence[str], paths: Sequence[str]) -> np.ndarray:
    """The place of each of `paths` in `all_paths`."""
    place = {path: row for row, path in enumerate(all_paths)}
    return np.fromiter((place[path] for path in paths), dtype=np.int64, count=len(paths))
