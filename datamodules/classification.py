"""Pictures with one label each."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.base import LoupeDataModule
from datamodules.formats import find_labels
from datamodules.geometry import Fit
from datamodules.options import LabelRead
from datamodules.samples import PARTS, Samples, name_some
from datamodules.targets import Target
from datamodules.texts import Texts
from errors import LoupeError, nearest

__all__ = ["ClassificationDataModule", "LabelTarget", "LabelsTarget", "split_labels"]


class LabelTarget(Target):
    """The class number of each picture, in the order of the pictures."""

    def __init__(self, labels: np.ndarray) -> None:
        self.labels = torch.from_numpy(labels)

    def __call__(self, index: int, fit: Fit, plane: Tensor | None = None) -> dict[str, Tensor]:
        """`label`, a scalar int64."""
        return {"label": self.labels[index].clone()}


class LabelsTarget(Target):
    """Which classes each picture has.

    Args:
        starts: (N + 1,), where the numbers of each picture begin.
        numbers: class numbers of all pictures, one after the other.
        num_classes: how many there are.
    """

    def __init__(self, starts: np.ndarray, numbers: np.ndarray, num_classes: int) -> None:
        self.starts = starts
        self.numbers = numbers
        self.num_classes = num_classes

    def __call__(self, index: int, fit: Fit, plane: Tensor | None = None) -> dict[str, Tensor]:
        """`label` (K,) float32: 1 for each class of the picture, else 0."""
        label = torch.zeros(self.num_classes)
        label[torch.from_numpy(self.numbers[self.starts[index] : self.starts[index + 1]])] = 1.0
        return {"label": label}


class ClassificationDataModule(LoupeDataModule):
    """Pictures in one folder a class, the same under `train/ val/ test/`, or a manifest with labels.

    Args:
        root: a folder of class folders, a folder with `manifest.csv`, or a manifest with the columns
            `path,label[,split]`, or `path,labels[,split]` with any number of labels a picture, separated by `;`.
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
        # of a named set Loupe has written the manifest, and torchvision keeps the pictures
        outside = self.read.outside_root or self.dataset is not None
        samples = find_labels(root, self.problems, outside_root=outside)
        self.multi_label = "labels" in samples.columns
        return samples

    def strata(self, samples: Samples) -> Sequence[str]:
        """Drawn parts get their share of each class; of several labels the rarest counts."""
        if not self.multi_label:
            return samples.columns["label"]
        listed = [split_labels(entry) for entry in samples.columns["labels"]]
        counts = Counter(label for labels in listed for label in labels)
        return [min(labels, key=lambda label: (counts[label], label), default="") for labels in listed]

    def find_classes(self, samples: dict[str, Samples]) -> list[str]:
        """The labels found, sorted (as numbers where all are), or `data.read.class_names`."""
        found = {part: self._labels_of(samples[part]) for part in PARTS}
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
        if self.multi_label and not names:
            raise LoupeError("no picture has a label; the column labels is empty throughout")
        if len(names) < 2 and not self.multi_label:
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
        train = self.samples["train"]
        if self.multi_label:
            counts = Counter(label for entry in train.columns["labels"] for label in split_labels(entry))
        else:
            counts = Counter(train.columns["label"])
        return [counts[name] for name in self.class_names]

    def target(self, samples: Samples) -> Target:
        """The class numbers of these samples."""
        numbers = {name: number for number, name in enumerate(self.class_names)}
        if not self.multi_label:
            codes, names = Texts.of(samples.columns["label"]).codes()
            return LabelTarget(np.array([numbers[name] for name in names], dtype=np.int64)[codes])
        listed = [[numbers[label] for label in split_labels(entry)] for entry in samples.columns["labels"]]
        starts = np.cumsum([0, *map(len, listed)])
        return LabelsTarget(
            starts, np.array([n for each in listed for n in each], dtype=np.int64), len(numbers)
        )

    def _labels_of(self, samples: Samples) -> set[str]:
        if not self.multi_label:
            return set(Texts.of(samples.columns["label"]).codes()[1])
        return {label for entry in set(samples.columns["labels"]) for label in split_labels(entry)}


def split_labels(entry: str) -> list[str]:
    """The labels of one picture, each once, as the column `labels` has them.

    >>> split_labels("rust; crack;"), split_labels("")
    (['rust', 'crack'], [])
    """
    return list(dict.fromkeys(label for piece in entry.split(";") if (label := piece.strip())))


def _is_number(label: str) -> bool:
    return label.isascii() and label.isdigit()
