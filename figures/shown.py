"""One sample for the eye: its picture, what is true, and what was predicted, all on the CPU as plain numbers."""

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

__all__ = ["VOID", "BoxShown", "ClassShown", "MaskShown", "Shown"]

VOID = 255
"""The value of pixels of a mask that count neither for nor against."""

Box: TypeAlias = tuple[float, float, float, float]


@dataclass(frozen=True)
class ClassShown:
    """A classified picture.

    Args:
        image: (H, W, 3) uint8.
        name: The file, for the caption.
        truth: Names of the true classes; one, or any number where labels are many.
        predicted: Names of the predicted classes. Empty with a ``probability`` means that no class was likely enough;
            empty without one means that nothing was asked: a sample as it is trained on.
        probability: 0..1, of the answer.
        heat: (h, w) float 0..1, what spoke for the likeliest class; any size, it is stretched over the picture.
    """

    image: np.ndarray
    name: str
    truth: tuple[str, ...]
    predicted: tuple[str, ...] = ()
    probability: float = math.nan
    heat: np.ndarray | None = None

    @property
    def asked(self) -> bool:
        """Whether there is a prediction to show."""
        return bool(self.predicted) or self.probability > 0

    @property
    def right(self) -> bool:
        """Whether the predicted classes are the true ones, in any order."""
        return set(self.predicted) == set(self.truth)


@dataclass(frozen=True)
class MaskShown:
    """A segmented picture.

    Args:
        image: (H, W, 3) uint8.
        name: The file, for the caption.
        truth: (H, W) uint8, class numbers, 255 = void.
        predicted: (H, W) uint8, or None for a sample as it is trained on.
        score: IoU within the picture, 0..1.
    """

    image: np.ndarray
    name: str
    truth: np.ndarray
    predicted: np.ndarray | None = None
    score: float | None = None


@dataclass(frozen=True)
class BoxShown:
    """A picture with a region of interest; boxes are (x1, y1, x2, y2) in 0..1 of the picture.

    Args:
        image: (H, W, 3) uint8.
        name: The file, for the caption.
        truth: None where the picture has no object.
        predicted: None for a sample as it is trained on.
        confidence: 0..1, that there is an object.
        score: IoU of the two boxes, 0..1.
    """

    image: np.ndarray
    name: str
    truth: Box | None
    predicted: Box | None = None
    confidence: float = math.nan
    score: float | None = None


Shown: TypeAlias = ClassShown | MaskShown | BoxShown
