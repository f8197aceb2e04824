"""Pictures with the box of one object, or none."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors

from datamodules.base import LoupeDataModule
from datamodules.box_manifest import BOX_COLUMNS, Box, box_of, find_box_samples
from datamodules.dataset import Target
from datamodules.geometry import Fit
from datamodules.options import Read
from datamodules.samples import PARTS, Samples
from errors import LoupeError

__all__ = ["BoxTarget", "CropDataModule"]


class BoxTarget(Target):
    """The box of each picture in pixels of the upright original, None where there is no object."""

    def __init__(self, boxes: list[Box | None]) -> None:
        self.boxes = boxes

    def __call__(self, index: int, fit: Fit) -> dict[str, Tensor]:
        """`box` (1, 4) float32 in pixels of the network input, and `has_box`, a scalar bool."""
        box = self.boxes[index]
        place = fit.box(torch.tensor(box or (0.0, 0.0, 0.0, 0.0), dtype=torch.float32))
        return {
            "box": tv_tensors.BoundingBoxes(place[None], format="XYXY", canvas_size=fit.size_hw),  # pyright: ignore[reportCallIssue]
            "has_box": torch.tensor(box is not None),
        }

    def finish(self, sample: dict[str, Tensor]) -> dict[str, Tensor]:
        """`box` (4,) in 0..1 of the network input, and `has_box`: false too where the object was moved out of sight."""
        height, width = sample["image"].shape[-2:]
        box = sample["box"][0] / torch.tensor([width, height, width, height], dtype=torch.float32)
        size = box[2:] - box[:2]
        return sample | {"box": box, "has_box": sample["has_box"] & bool((size > 0).all())}


class CropDataModule(LoupeDataModule):
    """Pictures and the box of the one object in each, from a CSV manifest.

    Args:
        root: a CSV file with the columns `path,x1,y1,x2,y2[,split]`, or a folder with such a `manifest.csv`. Boxes are
            pixels of the upright picture, x2 and y2 exclusive; empty fields: no object; of several rows of one picture
            the largest box counts.
        dataset: `shapes`, the demo data, instead of `root`.
        image_size: side of the network input in pixels, or height and width.
        read: how files become tensors.
        split: what to do where the data names no parts.
        augment: random changes of training pictures; boxes are not turned, since the box around a turned box is too
            large.
        loader: how batches are made and moved.
        predict_path: a picture, a folder or a CSV with the column `path`.
    """

    gives = ("box", "has_box")
    demo_file = "boxes.csv"
    turns = False

    # The command line reads the other arguments from the base's signature.
    def __init__(self, root: str | None = None, *, read: Read = Read(), **others: Any) -> None:
        super().__init__(root, read=read, **others)

    def find_samples(self, root: Path) -> Samples:
        """Pictures with the columns `x1 y1 x2 y2`."""
        return find_box_samples(root, skip=self.read.on_error == "skip")

    def strata(self, samples: Samples) -> list[str]:
        """Drawn parts get their share of the pictures with an object, and of those without."""
        return ["object" if entry else "none" for entry in samples.columns[BOX_COLUMNS[0]]]

    def find_classes(self, samples: dict[str, Samples]) -> list[str]:
        """The one thing to find."""
        if not any(samples["train"].columns[BOX_COLUMNS[0]]):
            raise LoupeError(
                "no picture of the train part has a box; a cropper learns from boxes (x1,y1,x2,y2)"
            )
        return ["object"]

    def describe_annotations(self) -> str:
        """How many pictures of each part have a box."""
        counts = {part: sum(map(bool, self.samples[part].columns[BOX_COLUMNS[0]])) for part in PARTS}
        return "boxes: " + ", ".join(
            f"{count} {part}" for part, count in counts.items() if len(self.samples[part])
        )

    def target(self, samples: Samples) -> Target:
        """The boxes of these samples."""
        return BoxTarget([box_of(samples, row) for row in range(len(samples))])
