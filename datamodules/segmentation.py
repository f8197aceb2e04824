"""Pictures with a class for every pixel."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors

from datamodules.base import LoupeDataModule
from datamodules.formats import FoundMasks, find_masks
from datamodules.geometry import VOID, Fit
from datamodules.mask_classes import MaskValues, add_values, scan_masks, value_to_class
from datamodules.mask_colors import ClassColors
from datamodules.mask_readers import MaskReader
from datamodules.options import MaskRead
from datamodules.samples import PARTS, Samples
from datamodules.targets import Target
from datamodules.texts import Texts
from errors import LoupeError

__all__ = ["MaskTarget", "SegmentationDataModule"]


class MaskTarget(Target):
    """Reads masks and turns file values into classes.

    Args:
        masks: entries of the column `mask`, in the order of the pictures.
        table: (256,) uint8, value -> class, 255 for void.
        reader: reads the entries.
    """

    def __init__(self, masks: Sequence[str], table: Tensor, reader: MaskReader) -> None:
        self.masks = masks
        self.table = table
        self.reader = reader
        self._last: tuple[int, Tensor] | None = None

    def __call__(self, index: int, fit: Fit, plane: Tensor | None = None) -> dict[str, Tensor]:
        """`mask` (H, W) uint8 at the size of the network input."""
        return {"mask": tv_tensors.Mask(self.plane(index, fit) if plane is None else plane)}

    def plane(self, index: int, fit: Fit) -> Tensor:
        """Class numbers (H, W) uint8 at the size of the network input."""
        mask = self._classes(index)
        if tuple(mask.shape) != fit.size_hw_px:
            raise LoupeError(
                f"{self.reader.title(self.masks[index])} is {mask.shape[1]}x{mask.shape[0]} and its picture is "
                f"{fit.size_hw_px[1]}x{fit.size_hw_px[0]} (width x height, upright)"
            )
        return fit.mask(mask)

    def whole(self, index: int) -> dict[str, Tensor]:
        """`whole_mask` (H0, W0) uint8, class numbers and void at the size of the picture."""
        return {"whole_mask": self._classes(index)}

    def files(self, index: int) -> tuple[str, ...]:
        """The mask's file."""
        return self.reader.files(self.masks[index])

    def point(self, index: int, rng: np.random.Generator) -> tuple[float, float] | None:
        """A random pixel of a random class that the picture has, the background (class 0) left out."""
        mask = self._classes(index).numpy()
        present = [
            label for label in np.flatnonzero(np.bincount(mask.ravel())).tolist() if label not in (0, VOID)
        ]
        if not present:
            return None
        places = np.flatnonzero(mask == present[int(rng.integers(len(present)))])
        y, x = divmod(int(places[int(rng.integers(len(places)))]), mask.shape[1])
        return float(y), float(x)

    def finish(self, sample: dict[str, Tensor]) -> dict[str, Tensor]:
        """Masks travel through the augmentation as bytes, and leave it as class numbers."""
        return sample | {"mask": sample["mask"].long()}

    def _classes(self, index: int) -> Tensor:
        """The whole mask as class numbers; the last one is at hand for who asks twice."""
        if self._last is None or self._last[0] != index:
            self._last = (index, self.table[self.reader.read(self.masks[index]).long()])
        return self._last[1]


class SegmentationDataModule(LoupeDataModule):
    """Pictures and masks: `images/` and `masks/`, the same under `train/ val/ test/`, a manifest, COCO, Pascal VOC.

    Args:
        root: a folder, a folder with `manifest.csv`, or a manifest with the columns `path,mask[,split]`; COCO's JSON.
        dataset: `shapes`, the demo data, instead of `root`.
        image_size: side of the network input in pixels, or height and width.
        read: how files become tensors.
        split: what to do where the data names no parts.
        augment: random changes of training pictures.
        loader: how batches are made and moved.
        predict_path: a picture, a folder or a CSV with the column `path`.
    """

    gives = ("mask",)
    knows_objects = True

    # The command line reads the other arguments from the base's signature.
    def __init__(self, root: str | None = None, *, read: MaskRead = MaskRead(), **others: Any) -> None:
        super().__init__(root, read=read, **others)
        self.mask_read = read
        self._found: FoundMasks | None = None
        self._train_values: MaskValues | None = None

    def find_samples(self, root: Path) -> Samples:
        """Pictures with the column `mask`."""
        self._found = find_masks(root, self.mask_read, self.problems)
        colors = _class_colors(self.mask_read)
        if colors is not None:
            self._found = replace(self._found, reader=colors)
        return self._found.samples

    def find_classes(self, samples: dict[str, Samples]) -> list[str]:
        """Reads every mask once; the result is remembered in the cache folder."""
        found, read = self._layout, self.mask_read
        skip = self.read.on_error == "skip"
        if found.reader.class_names is not None:
            # outlines cannot hold what is no class, and drawing them all takes long
            if self.problems.collecting or found.reader.files(""):
                for part in PARTS:
                    scan_masks(samples[part], found.reader, skip=skip, problems=self.problems)
            self._table = torch.arange(256, dtype=torch.uint8)
            return self._known_names(found.reader.class_names)
        if read.label_mapping is None and found.label_mapping is not None:
            read = replace(read, label_mapping=found.label_mapping)
        if read.class_names is None and found.class_names is not None:
            read = replace(read, class_names=found.class_names)
        counted = [
            scan_masks(samples[part], found.reader, skip=skip, problems=self.problems) for part in PARTS
        ]
        self._train_values = counted[PARTS.index("train")]
        values = add_values(counted)
        try:
            self._table, num_classes = value_to_class(values, read)
        except LoupeError as error:
            if self.problems.collecting:
                shown = dict.fromkeys(values.examples[value] for value in sorted(values.pixels, reverse=True))
                self.problems.add("mask values that are no class", str(error), shown)
            raise
        if read.class_names is not None:
            return list(read.class_names)
        if self.dataset == "shapes":
            return ["background", "shape"]
        return (
            ["background", "foreground"] if num_classes == 2 else [f"class_{k}" for k in range(num_classes)]
        )

    def class_counts(self) -> list[int]:
        """Training pixels of each class, void left out; reads the training masks once."""
        skip, reader = self.read.on_error == "skip", self._layout.reader
        values = self._train_values or scan_masks(
            self.samples["train"], reader, skip=skip, problems=self.problems
        )
        counts = [0] * self.num_classes
        for value, pixels in values.pixels.items():
            if (number := int(self._table[value])) < self.num_classes:
                counts[number] += pixels
        return counts

    def mask_key(self, samples: Samples) -> str:
        """What the kept masks depend on beside their files."""
        reader = self._layout.reader
        texts = "" if reader.files("") else Texts.of(samples.columns["mask"]).digest()
        return f"{reader.key} {self._table.tolist()} {texts}"

    def target(self, samples: Samples) -> Target:
        """Reads the masks of these samples."""
        return MaskTarget(samples.columns["mask"], self._table, self._layout.reader)

    @property
    def _layout(self) -> FoundMasks:
        assert self._found is not None, "find_samples() comes first"
        return self._found

    def _known_names(self, names: list[str]) -> list[str]:
        if len(names) < 2:
            raise LoupeError("data.read.class_colors names one class; nothing can be learnt from that")
        given = self.mask_read.class_names
        if given is not None and (len(given) != len(names) or len(set(given)) < len(given)):
            raise LoupeError(
                f"data.read.class_names has {len(given)} names, and the annotations have {len(names)} classes: "
                f"{', '.join(names)}"
            )
        for key in ("label_mapping", "ignore_index"):
            if getattr(self.mask_read, key) is not None:
                raise LoupeError(
                    f"data.read.{key} is of mask files with values; these annotations name their classes"
                )
        return list(given or names)


def _class_colors(read: MaskRead) -> ClassColors | None:
    if read.class_colors is None:
        return None
    for key in ("class_names", "label_mapping", "ignore_index"):
        if getattr(read, key) is not None:
            raise LoupeError(
                f"data.read.class_colors and data.read.{key} are both set; colours say classes, their names and void"
            )
    return ClassColors(read.class_colors)
