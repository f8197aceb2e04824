"""Pictures with a class for every pixel."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors

from datamodules.base import LoupeDataModule
from datamodules.dataset import Target
from datamodules.geometry import Fit
from datamodules.images import read_mask
from datamodules.mask_classes import scan_masks, value_to_class
from datamodules.mask_colors import ClassColors
from datamodules.mask_folders import find_mask_samples
from datamodules.options import MaskRead
from datamodules.samples import PARTS, Samples
from errors import LoupeError

__all__ = ["MaskTarget", "SegmentationDataModule"]


class MaskTarget(Target):
    """Reads masks and turns file values into classes.

    Args:
        masks: mask files, in the order of the pictures.
        table: (256,) uint8, file value -> class, 255 for void.
        colors: reads coloured masks; None: the values are in the files.
    """

    def __init__(self, masks: list[str], table: Tensor, colors: ClassColors | None = None) -> None:
        self.masks = masks
        self.table = table
        self.colors = colors

    def __call__(self, index: int, fit: Fit) -> dict[str, Tensor]:
        """`mask` (H, W) uint8 at the size of the network input."""
        file = self.masks[index]
        mask = read_mask(file) if self.colors is None else self.colors.read(file)
        if tuple(mask.shape) != fit.size_hw_px:
            raise LoupeError(
                f"{self.masks[index]} is {mask.shape[1]}x{mask.shape[0]} and its picture is "
                f"{fit.size_hw_px[1]}x{fit.size_hw_px[0]} (width x height, upright)"
            )
        return {"mask": tv_tensors.Mask(fit.mask(self.table[mask.long()]))}

    def finish(self, sample: dict[str, Tensor]) -> dict[str, Tensor]:
        """Masks travel through the augmentation as bytes, and leave it as class numbers."""
        return sample | {"mask": sample["mask"].long()}


class SegmentationDataModule(LoupeDataModule):
    """Pictures and masks, from `images/` and `masks/`, the same under `train/ val/ test/`, or a CSV manifest.

    Args:
        root: a folder, a folder with `manifest.csv`, or a CSV file with the columns `path,mask[,split]`.
        dataset: `shapes`, the demo data, instead of `root`.
        image_size: side of the network input in pixels, or height and width.
        read: how files become tensors.
        split: what to do where the data names no parts.
        augment: random changes of training pictures.
        loader: how batches are made and moved.
        predict_path: a picture, a folder or a CSV with the column `path`.
    """

    gives = ("mask",)

    # The command line reads the other arguments from the base's signature.
    def __init__(self, root: str | None = None, *, read: MaskRead = MaskRead(), **others: Any) -> None:
        super().__init__(root, read=read, **others)
        self.mask_read = read
        self._colors: ClassColors | None = None

    def find_samples(self, root: Path) -> Samples:
        """Pictures with the column `mask`."""
        return find_mask_samples(root)

    def find_classes(self, samples: dict[str, Samples]) -> list[str]:
        """Reads every mask once; the result is remembered in the cache folder."""
        self._colors = _class_colors(self.mask_read)
        paths = [path for part in PARTS for path in samples[part].paths]
        masks = [mask for part in PARTS for mask in samples[part].columns["mask"]]
        values = scan_masks(paths, masks, skip=self.read.on_error == "skip", colors=self._colors)
        if self._colors is not None:
            self._table = torch.arange(256, dtype=torch.uint8)
            if len(self._colors.class_names) < 2:
                raise LoupeError("data.read.class_colors names one class; nothing can be learnt from that")
            return self._colors.class_names
        self._table, num_classes = value_to_class(values, self.mask_read)
        if self.mask_read.class_names is not None:
            return list(self.mask_read.class_names)
        if self.dataset == "shapes":
            return ["background", "shape"]
        return (
            ["background", "foreground"] if num_classes == 2 else [f"class_{k}" for k in range(num_classes)]
        )

    def class_counts(self) -> list[int]:
        """Training pixels of each class, void left out; reads the training masks once."""
        train = self.samples["train"]
        skip = self.read.on_error == "skip"
        values = scan_masks(train.paths, train.columns["mask"], skip=skip, colors=self._colors)
        counts = [0] * self.num_classes
        for value, pixels in values.pixels.items():
            if (number := int(self._table[value])) < self.num_classes:
                counts[number] += pixels
        return counts

    def target(self, samples: Samples) -> Target:
        """Reads the masks of these samples."""
        return MaskTarget(samples.columns["mask"], self._table, self._colors)


def _class_colors(read: MaskRead) -> ClassColors | None:
    if read.class_colors is None:
        return None
    for key in ("class_names", "label_mapping", "ignore_index"):
        if getattr(read, key) is not None:
            raise LoupeError(
                f"data.read.class_colors and data.read.{key} are both set; colours say classes, their names and void"
            )
    return ClassColors(read.class_colors)
