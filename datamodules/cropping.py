"""Pictures with the box of one object, or none."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors

from datamodules.base import LoupeDataModule
from datamodules.formats import BOX_COLUMNS, boxes_of, find_boxes
from datamodules.geometry import Fit
from datamodules.options import BoxRead
from datamodules.samples import PARTS, Samples
from datamodules.targets import Target
from errors import LoupeError

__all__ = ["BoxTarget", "CropDataModule"]


_SLIVER = 0.1  # share of an object below which a crop that cuts it off shows no object


class BoxTarget(Target):
    """The box of each picture.

    Args:
        boxes: (N, 4) float32 x1, y1, x2, y2 in pixels of the upright original, NaN where there is no object.
    """

    def __init__(self, boxes: np.ndarray) -> None:
        self.boxes = boxes

    def __call__(self, index: int, fit: Fit, plane: Tensor | None = None) -> dict[str, Tensor]:
        """`box` (1, 4) float32 in pixels of the network input, and `has_box`, a scalar bool."""
        box = torch.from_numpy(self.boxes[index])
        place = fit.box(torch.nan_to_num(box))
        size = place[2:] - place[:2]
        _, _, height, width = fit.seen
        whole = (box[2:] - box[:2]) * torch.tensor([fit.inner_hw[1] / width, fit.inner_hw[0] / height])
        # NaN, no object, is not larger either
        has_box = bool(size.prod() > _SLIVER * whole.prod()) and bool((size > 0).all())
        return {
            "box": tv_tensors.BoundingBoxes(place[None], format="XYXY", canvas_size=fit.size_hw),  # pyright: ignore[reportCallIssue]
            "has_box": torch.tensor(has_box),
        }

    def point(self, index: int, rng: np.random.Generator) -> tuple[float, float] | None:
        """A random place in the box."""
        x1, y1, x2, y2 = self.boxes[index].tolist()
        return None if x1 != x1 else (rng.uniform(y1, y2), rng.uniform(x1, x2))

    def finish(self, sample: dict[str, Tensor]) -> dict[str, Tensor]:
        """`box` (4,) in 0..1 of the network input, and `has_box`: false too where the object was moved out of sight."""
        height, width = sample["image"].shape[-2:]
        box = sample["box"][0] / torch.tensor([width, height, width, height], dtype=torch.float32)
        size = box[2:] - box[:2]
        return sample | {"box": box, "has_box": sample["has_box"] & bool((size > 0).all())}


class CropDataModule(LoupeDataModule):
    """Pictures and the box of the one object in each: a manifest, COCO, Pascal VOC, or masks.

    Args:
        root: a manifest with the columns `path,x1,y1,x2,y2[,split]` or `path,mask[,split]`, or a folder with such a
            `manifest.csv`, with `images/` and `masks/`, or in the layout of COCO or Pascal VOC. Boxes are pixels of the
            upright picture, x2 and y2 exclusive; empty fields: no object; of several boxes the largest counts.
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
    knows_objects = True
    turns = False

    # The command line reads the other arguments from the base's signature.
    def __init__(self, root: str | None = None, *, read: BoxRead = BoxRead(), **others: Any) -> None:
        super().__init__(root, read=read, **others)
        self.box_read = read

    def find_samples(self, root: Path) -> Samples:
        """Pictures with the columns `x1 y1 x2 y2`."""
        return find_boxes(root, self.box_read, self.problems)

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
        return BoxTarget(boxes_of(samples))
