"""The section `predictions:` of a config: what `predict` writes."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["Predictions"]


@dataclass
class Predictions:
    """What `predict` writes.

    Attributes:
        directory: Where to; null: `predictions` in the run directory.
        table: predictions.csv, or predictions.parquet.
        probability_maps: Also the probability of each class for each pixel, half precision, an .npz a picture.
        overlays: Also the picture with its mask, box or label drawn on it, a JPEG a picture.
        coco: Also coco.json: masks as run lengths, or boxes, with their scores.
    """

    directory: str | None = None
    table: Literal["csv", "parquet"] = "csv"
    probability_maps: bool = False
    overlays: bool = False
    coco: bool = False
