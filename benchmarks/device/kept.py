"""Batches that lie on the device, in place of what a datamodule reads, so that a step costs what it costs."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from benchmarks.device.settings import Case
from benchmarks.timing import KeptBatches
from datamodules import ClassificationDataModule, SegmentationDataModule
from datamodules.shapes import SHAPES

KINDS = 4
"""Batches that are kept."""
ENDLESS = 100_000
"""Steps of an epoch: the fit is ended by the callback that measures."""


def classes_of(case: Case) -> int:
    """Of the demo data."""
    return len(SHAPES) if case.kind == "classification" else 2


def make_batches(case: Case, device: torch.device, *, floats: bool = False) -> list[dict[str, Any]]:
    """Random pictures (B, 3, H, W) uint8, or with ``floats`` in 0..1, and answers."""
    generator = torch.Generator(device=device).manual_seed(0)

    def random(most: int, *shape: int) -> torch.Tensor:
        return torch.randint(0, most, shape, device=device, generator=generator)

    made: list[dict[str, Any]] = []
    for _ in range(KINDS):
        image = random(256, case.batch, 3, case.size, case.size).to(torch.uint8)
        if case.kind == "classification":
            answer = {"label": random(classes_of(case), case.batch)}
        else:
            answer = {"mask": random(2, case.batch, case.size, case.size)}
        made.append({"image": image.float() / 255 if floats else image, **answer})
    return made


class Kept:
    """What both datamodules share.

    Attributes:
        case, device: Which batches.
        batches: Those of the loops, of which the fit has the same.
    """

    case: ClassVar[Case]
    batches: ClassVar[list[dict[str, Any]]]

    def train_dataloader(self) -> Any:
        """One batch as the loader makes it, with the kept pictures and answers in their place."""
        loader: Any = super().train_dataloader()  # pyright: ignore[reportAttributeAccessIssue]
        real = next(iter(loader))
        device = Kept.batches[0]["image"].device
        moved = {key: value.to(device) if torch.is_tensor(value) else value for key, value in real.items()}
        return KeptBatches([{**moved, **batch} for batch in Kept.batches], ENDLESS)


class KeptClassification(Kept, ClassificationDataModule):
    """A classifier's data, its training batches kept."""


class KeptSegmentation(Kept, SegmentationDataModule):
    """A segmenter's data, its training batches kept."""


def keep_batches(case: Case, device: torch.device) -> list[dict[str, Any]]:
    """Make the batches of this case, for the datamodules too."""
    Kept.case, Kept.batches = case, make_batches(case, device)
    return Kept.batches


def data_words(case: Case) -> list[str]:
    """Words for `train.py`: data of the kind, from memory."""
    kind = "Classification" if case.kind == "classification" else "Segmentation"
    return [f"--data.class_path=benchmarks.device.kept.Kept{kind}", "--data.loader.num_workers=0"]
