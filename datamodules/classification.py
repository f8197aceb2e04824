"""Pictures with one label each."""

from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datamodules.base import LoupeDataModule
from datamodules.class_folders import find_label_samples
from datamodules.dataset import Target
from datamodules.geometry import Fit
from datamodules.options import LabelRead
from datamodules.samples import PARTS, Samples, name_some
from errors import LoupeError, nearest

__all__ = ["ClassificationDataModule", "LabelTarget"]


class LabelTarget(Target):
    """The class number of each picture, in the order of the pictures."""

    def __init__(self, labels: list[int]) -> None:
        self.labels = labels

    def __call__(self, index: int, fit: Fit) -> dict[str, Tensor]:
        """`label`, a scalar int64."""
        return {"label": torch.tensor(self.labels[index])}


class ClassificationDataModule(LoupeDataModule):
    """Pictures in one folder a class, the same under `train/ val/ test/`, or a CSV manifest with labels.

    Args:
        root: a folder of class folders, a folder with `manifest.csv`, or a CSV file with the columns
            `path,label[,split]`.
        dataset: `shapes`, the demo data, instead of `root`.
        image_size: side of the network input in pixels, or height and width.
        read: how files become tensors.
        split: what to do where the data names no parts; drawn parts get their share of each class.
        augment: random changes of training pictures.
        loader: how batches are made and moved.
        predict_path: a picture, a folder or a CSV with the column `path`.
    """

    gives = ("label",)
    demo_file = "labels.csv"

    # The command line reads the other arguments from the base's signature.
    def __init__(self, root: str | None = None, *, read: LabelRead = LabelRead(), **others: Any) -> None:
        super().__init__(root, read=read, **others)
        self.label_read = read

    def find_samples(self, root: Path) -> Samples:
        """Pictures with the column `label`."""
        return find_label_samples(root)

    def strata(self, samples: Samples) -> list[str]:
        """Drawn parts get their share of each class."""
        return samples.columns["label"]

    def find_classes(self, samples: dict[str, Samples]) -> list[str]:
        """The labels found, sorted (as numbers where all are), or `data.read.class_names`."""
        found = {part: set(samples[part].columns["label"]) for part in PARTS}
        everywhere = set().union(*found.values())
        names = self.label_read.class_names
        if names is None:
            # Equal numbers (1, 01) by their spelling: every process must come to the same order.
            numbers = all(_is_number(name) for name in everywhere)
            names = sorted(everywhere, key=lambda name: (int(name) if numbers else 0, name))
        elif not names or len(set(names)) < len(names):
            raise LoupeError(f"data.read.class_names must be different names; got {names}")
        strange = sorted(everywhere - set(names))
        if strange:
            near = nearest(strange[0], names)
            raise LoupeError(
                f"the data has the labels {name_some(strange)}, which are not in data.read.class_names "
                f"({name_some(names)}){f'; did you mean {near}?' if near else ''}"
            )
        if len(names) < 2:
            raise LoupeError(
                f"all pictures have one label, '{names[0]}'; a classifier needs at least two classes"
            )
        unlearnt = sorted((found["val"] | found["test"]) - found["train"])
        if unlearnt:
            raise LoupeError(
                f"the train part has no picture of the label {name_some(unlearnt)}, which "
                f"val or test have; nothing could be learnt about it"
            )
        return list(names)

    def class_counts(self) -> list[int]:
        """Training pictures of each class."""
        counts = Counter(self.samples["train"].columns["label"])
        return [counts[name] for name in self.class_names]

    def target(self, samples: Samples) -> Target:
        """The class numbers of these samples."""
        numbers = {name: number for number, name in enumerate(self.class_names)}
        return LabelTarget([numbers[label] for label in samples.columns["label"]])


def _is_number(label: str) -> bool:
    return label.isascii() and label.isdigit()
