"""From the network's pixels back to the picture as it was."""

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["to_original_size"]


def to_original_size(probs: Tensor, to_original: Tensor, size_hw_px: tuple[int, int]) -> Tensor:
    """Cut the letterbox away and resize class probabilities to the original picture.

    Args:
        probs: (C, H, W) at network size.
        to_original: (2, 3), network (x, y) -> original (x, y); scales and shifts only.
        size_hw_px: Height and width of the upright original.

    Returns:
        (C, height, width), bilinear between pixel centres.

    >>> half = torch.tensor([[2.0, 0.0, -2.0], [0.0, 2.0, 0.0]])
    >>> to_original_size(torch.ones(1, 4, 4), half, (8, 4)).shape
    torch.Size([1, 8, 4])
    """
    (sx, _, tx), (_, sy, ty) = to_original.double().tolist()
    left, top = round(-tx / sx), round(-ty / sy)
    right, bottom = round((size_hw_px[1] - tx) / sx), round((size_hw_px[0] - ty) / sy)
    inner = probs[None, :, top:bottom, left:right]
    if tuple(inner.shape[-2:]) == tuple(size_hw_px):
        return inner[0]
    dtype = torch.float64 if probs.dtype == torch.float64 else torch.float32
    return functional.interpolate(inner.to(dtype), size=size_hw_px, mode="bilinear", align_corners=False)[0]
