"""The dataset of each part: reader, annotations, augmentation and cache put together."""

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from datamodules.augment import create_augmentation
from datamodules.crops import create_crop
from datamodules.dataset import PictureDataset
from datamodules.geometry import Fit
from datamodules.input_reader import InputReader
from datamodules.kept_samples import KeptSamples, open_cache, slots_of
from datamodules.mixing import create_mixing
from datamodules.picture_cache import PictureCache
from datamodules.skipped import Skipped
from datamodules.targets import Target
from datamodules.texts import Texts
from errors import LoupeError

if TYPE_CHECKING:
    from datamodules.base import LoupeDataModule

__all__ = ["PartDatasets", "global_seed"]


class PartDatasets:
    """Makes the datasets of a datamodule, and remembers what they could not read."""

    def __init__(self, data: "LoupeDataModule") -> None:
        self.data = data
        self._skipped: dict[str, Skipped] = {}
        self._cache: tuple[PictureCache | None, list[str]] | None = None

    def of_part(self, part: str) -> PictureDataset:
        """Pictures and annotations; those of `train` are augmented."""
        data = self.data
        samples, options, trains = data.samples[part], data.augment, part == "train"
        scale = None if trains else data.view.scale
        reader, target = InputReader(data.input_contract(), scale=scale), data.target(data.samples[part])
        crop = create_crop(options, has_point=data.knows_objects) if trains else None
        if crop is not None and data.loader.cache != "none":
            raise LoupeError(
                f"data.loader.cache={data.loader.cache} keeps pictures at the network's size, and data.augment.crop "
                f"{options.crop} needs them whole; leave one of them out"
            )
        augment = create_augmentation(options, turns=data.turns, channels=data.read.in_channels)
        return PictureDataset(
            samples.paths,
            reader=reader,
            target=target,
            augment=augment if trains else None,
            seed=global_seed(),
            skipped=self._skips(part, samples.paths),
            replaces=trains,
            crop=crop,
            mixing=create_mixing(options, data.gives, global_seed()) if trains else None,
            kept=self._kept(part, reader, target) if scale is None else None,
            region=self._region(part),
            full_size=data.view.full_size and not trains,
        )

    def of_pictures(self, paths: Sequence[str]) -> PictureDataset:
        """Pictures to predict on, without annotations."""
        reader = InputReader(self.data.input_contract(), scale=self.data.view.scale)
        skipped = self._skips("predict", paths)
        return PictureDataset(paths, reader=reader, skipped=skipped, region=self._region("predict"))

    def unreadable(self, part: str) -> list[int]:
        """Positions of what this process could not read of a part, and left out."""
        return self._skipped[part].indices() if part in self._skipped else []

    def reasons(self, part: str) -> list[tuple[int, str]]:
        """The same with the reason of each, for which it is read again; `tell_skipped` has no more to say of them."""
        skipped, reader = self._skipped.pop(part, None), InputReader(self.data.input_contract())
        found: list[tuple[int, str]] = []
        if skipped is None:
            return found
        for position in skipped.indices():
            try:
                reader(skipped.paths[position])
                found.append((position, "it could not be read at first"))
            except LoupeError as error:
                found.append((position, str(error)))
        return found

    def tell_skipped(self) -> None:
        """Says what could not be read, once."""
        became = {"train": "others took their place", "predict": "have no prediction"}
        for part, skipped in self._skipped.items():
            skipped.tell(part, became.get(part, "are in no score"))
        self._skipped.clear()

    def _region(self, part: str) -> Callable[[int, Fit], Fit] | None:
        view = self.data.view
        if part not in view.windows:
            return None
        assert self.data.loader.cache == "none", (
            "a cache keeps whole pictures; whoever sets windows refuses it"
        )
        return partial(view.fit_to_window, part)

    def _kept(self, part: str, reader: InputReader, target: Target) -> KeptSamples | None:
        """Through the one cache of all parts, in which another fold finds the same pictures."""
        data = self.data
        if self._cache is None:
            assert data.found is not None, "setup() comes first"
            # in one order, whatever the split
            found = data.found.take(Texts.of(data.found.paths).order() if data.loader.cache != "none" else [])
            paths, key = list(found.paths), data.mask_key(found)
            self._cache = open_cache(data.loader, data.input_contract(), paths, mask_key=key), paths
        cache, paths = self._cache
        if cache is None:
            return None
        return KeptSamples(cache, slots_of(paths, data.samples[part].paths), reader, target)

    def _skips(self, part: str, paths: Sequence[str]) -> Skipped | None:
        skips = part == "predict" or self.data.read.on_error == "skip"
        return self._skipped.setdefault(part, Skipped(paths)) if skips else None


def global_seed() -> int:
    """What `seed_everything` set."""
    return int(os.environ.get("PL_GLOBAL_SEED", 0))
