"""The sections of a config that say how a trained model answers: `inference:` and `roi:`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from errors import LoupeError

__all__ = ["Inference", "Roi", "Tiles"]


@dataclass
class Tiles:
    """Segment pictures in overlapping tiles at their own resolution, instead of shrinking them to `data.image_size`.

    Attributes:
        enabled: Work in tiles.
        size: Side of a tile in pixels of the network's input; null: that of the training, `data.image_size`.
        overlap: Pixels that neighbouring tiles share; null: what a pixel's answer depends on where that is less than
            half a tile, else a quarter of a tile.
        scale: Pixels of the network's input for one pixel of the picture: that at which the training saw pictures.
    """

    enabled: bool = False
    size: int | None = None
    overlap: int | None = None
    scale: float = 1.0


@dataclass
class Inference:
    """How `validate`, `test`, `predict` and `export` ask a trained model.

    Attributes:
        flips: Also ask about the mirrored picture, and take the mean of the probabilities.
        scales: Factors of the size that the network sees; with several the mean of the probabilities is taken.
        ensemble: Further checkpoints of the same task, classes and input; the mean of the probabilities is taken.
        tiles: Segment large pictures in tiles.
        full_size: `validate` and `test` score masks at the pictures' own size, as `predict` gives them, one picture at
            a time, not at the network's; always so with tiles, `roi` or thresholds of `calibrate`.
        compare: `validate` and `test` also score the plain model, and tell what the above and `roi` gain.
    """

    flips: Literal["none", "horizontal", "vertical", "both"] = "none"
    scales: list[float] = field(default_factory=lambda: [1.0])
    ensemble: list[str] = field(default_factory=list)
    tiles: Tiles = field(default_factory=Tiles)
    full_size: bool = False
    compare: bool = True

    def check(self) -> None:
        """Raise LoupeError where a member of the ensemble is not there."""
        for checkpoint in self.ensemble:
            if not Path(checkpoint).is_file():
                raise LoupeError(f"inference.ensemble: there is no checkpoint {checkpoint}")


@dataclass
class Roi:
    """Show the model the region of interest that a trained cropper finds in a picture, in training and ever after.

    Attributes:
        checkpoint: That of the cropper; its weights are kept in the checkpoints of this model, so that later commands
            need it no more.
        threshold: The whole picture is shown where the cropper's confidence is below this; null: below what `calibrate`
            chose for the cropper, else 0.5.
        margin: What is added to the box on each side, as a share of its width and height; null: 0.1. For a model
            that was trained behind a cropper, null is in both cases what it was in the training.
    """

    checkpoint: str | None = None
    threshold: float | None = None
    margin: float | None = None
