"""Masks and crops as pictures."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from figures import palette

__all__ = ["cut", "mask_image"]


def mask_image(mask: np.ndarray) -> Image.Image:
    """A (H, W) uint8 mask as a palette picture: the values are the class numbers, the colours are for the eye."""
    image = Image.fromarray(mask, mode=None)
    image.putpalette([channel for colour in palette() for channel in colour])
    return image


def cut(image: np.ndarray, box_xyxy_px: Sequence[float]) -> np.ndarray:
    """The whole pixels of (H, W, C) that a box touches, at least one.

    >>> cut(np.zeros((8, 9, 3), np.uint8), [1.5, 2.0, 4.2, 5.0]).shape  # columns 1 to 4, rows 2 to 4
    (3, 4, 3)
    """
    height, width = image.shape[:2]
    left, top = min(math.floor(box_xyxy_px[0]), width - 1), min(math.floor(box_xyxy_px[1]), height - 1)
    return image[
        top : max(math.ceil(box_xyxy_px[3]), top + 1), left : max(math.ceil(box_xyxy_px[2]), left + 1)
    ]
