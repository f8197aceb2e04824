"""The regions of interest of many pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer
from torch import Tensor

__all__ = ["Found", "with_region"]


@dataclass(frozen=True)
class Found:
    """One row a picture; zeros for one that could not be read.

    Attributes:
        windows: (N, 4) int64, top, left, height, width in pixels of the upright picture.
        boxes: (N, 4) float32, what the cropper answered, x1, y1, x2, y2 in the same pixels.
        confidence: (N,) float32, in 0..1.
        size_hw_px: (N, 2) int64, heights and widths of the pictures.
    """

    windows: np.ndarray
    boxes: np.ndarray
    confidence: np.ndarray
    size_hw_px: np.ndarray

    @classmethod
    def empty(cls, count: int) -> "Found":
        """Nothing yet of so many pictures."""
        return cls(
            np.zeros((count, 4), np.int64),
            np.zeros((count, 4), np.float32),
            np.zeros(count, np.float32),
            np.zeros((count, 2), np.int64),
        )

    def put(self, batch: Mapping[str, Tensor], window: Tensor, box: Tensor, confidence: Tensor) -> None:
        """Take the answers for a batch, less those that are padding."""
        valid = batch["valid"].numpy()
        rows = batch["index"].numpy()[valid]
        self.windows[rows] = window.cpu().numpy()[valid]
        self.boxes[rows] = box.cpu().numpy()[valid]
        self.confidence[rows] = confidence.cpu().numpy()[valid]
        self.size_hw_px[rows] = batch["size_hw_px"].numpy()[valid]

    def gathered(self, trainer: Trainer) -> "Found":
        """What all processes have found, on each of them: every row is of one, and zeros on the others."""
        if trainer.world_size == 1:
            return self

        def summed(rows: np.ndarray) -> np.ndarray:
            own = torch.from_numpy(rows).to(trainer.strategy.root_device)
            return trainer.strategy.reduce(own, reduce_op="sum").cpu().numpy()

        return Found(
            summed(self.windows), summed(self.boxes), summed(self.confidence), summed(self.size_hw_px)
        )

    def told(self, what: str, threshold: float) -> str:
        """One line: how many pictures were cut to how much of them."""
        area, whole = (rows[:, -2:].astype(np.float64).prod(1) for rows in (self.windows, self.size_hw_px))
        read, cropped = whole > 0, area < whole
        pictures = f"{what} pictures".strip()
        line = f"roi: {cropped.sum()} of {len(area)} {pictures} cropped"
        if cropped.any():
            line += f" to {100 * np.median(area[cropped] / whole[cropped]):.0f} % of their area (median)"
        if left := int((read & ~cropped).sum()):
            line += f", {left} whole (confidence below {threshold:g})"
        return line + (f", {(~read).sum()} not read" if not read.all() else "")


def with_region(prediction: Mapping[str, Any], window: Sequence[int]) -> dict[str, Any]:
    """A prediction that also tells which part of the picture was seen.

    Args:
        prediction: What docs/batch.md calls one.
        window: Top, left, height and width, pixels of the upright picture.

    Returns:
        The same with ``seen``, x1, y1, x2, y2, and the columns ``roi_x1`` to ``roi_y2`` in its row.
    """
    top, left, height, width = window
    seen = (left, top, left + width, top + height)
    columns = dict(zip(("roi_x1", "roi_y1", "roi_x2", "roi_y2"), seen, strict=True))
    return {**prediction, "row": {**prediction["row"], **columns}, "seen": seen}
