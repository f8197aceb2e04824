"""Which pixels lie at the boundary of their class, for all classes at once."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["boundary_distance", "inner_boundary"]


def boundary_distance(height: int, width: int) -> int:
    """How wide the inner boundary is, pixels: 2 % of the diagonal, at least 1 (Cheng et al. 2021, section 4.1).

    >>> boundary_distance(256, 256)
    7
    """
    return max(1, round(0.02 * math.hypot(height, width)))


def inner_boundary(classes: Tensor, hidden: Tensor, distance: int, num_classes: int) -> Tensor:
    """Whether another class, or the picture's end, lies within ``distance`` in both directions, (B, H, W) bool.

    For each class these are the pixels that erosion by a square of ``2 * distance + 1`` takes away, as in the code of
    Cheng et al. 2021. They are found for all classes at once: the highest and the lowest class number in the square
    around the pixel differ.

    Args:
        classes: Class numbers, (B, H, W), any integers.
        hidden: Pixels that are no class at all and make no boundary, (B, H, W) bool; the answer there means nothing.
        distance: Pixels, at least 1.
        num_classes: Classes are 0..num_classes-1.

    >>> row = torch.tensor([[[0, 0, 0, 0, 0, 1, 1, 1]] * 8])
    >>> inner_boundary(row, torch.zeros_like(row, dtype=torch.bool), 1, 2)[0, 4].long().tolist()
    [1, 0, 0, 0, 1, 1, 0, 1]
    """
    # 0 loses against everything, `top` is the picture's end. The lowest number is the highest of what is missing to it.
    small = num_classes < 254
    dtype, top = (torch.uint8, 255) if small else (torch.int16, 32767)
    up = (classes.to(dtype) + 1).masked_fill(hidden, 0)
    down = (top - up).masked_fill(hidden, 0)
    both = F.pad(torch.cat([up, down]), (distance,) * 4, value=top)
    highest, from_lowest = _highest(_highest(both, distance, 2), distance, 1).chunk(2)
    return highest != top - from_lowest


def _highest(values: Tensor, distance: int, dim: int) -> Tensor:
    """The highest of each ``2 * distance + 1`` neighbours along a dimension, which gets shorter by ``2 * distance``.

    Windows of 2, 4, 8, ... come from two of half their width, so a wide one costs little more than a narrow one.
    """
    size, width, reach = values.shape[dim] - 2 * distance, 2 * distance + 1, 1
    while 2 * reach <= width:
        rest = values.shape[dim] - reach
        values = torch.maximum(values.narrow(dim, 0, rest), values.narrow(dim, reach, rest))
        reach *= 2
    return torch.maximum(values.narrow(dim, 0, size), values.narrow(dim, width - reach, size))
