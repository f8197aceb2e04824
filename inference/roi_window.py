"""From a cropper's box to the part of the picture that the next model is shown."""

import torch
from torch import Tensor

__all__ = ["roi_window"]


def roi_window(
    box_xyxy_px: Tensor, confidence: Tensor, size_hw_px: Tensor, *, threshold: float, margin: float
) -> Tensor:
    """The region of interest in whole pixels.

    The box is cut at the picture's borders, grows by ``margin`` of its width and height on each side and to whole
    pixels, and is cut again. The whole picture is taken where the confidence is below ``threshold``, or is no number,
    and where nothing of the box lies in the picture. Tensor operations only, so that a graph may contain it.

    Args:
        box_xyxy_px: (B, 4) float, pixels of the upright picture, x2 and y2 exclusive.
        confidence: (B,) in 0..1.
        size_hw_px: (B, 2) heights and widths of the pictures.
        threshold: In 0..1.
        margin: From 0 on, a share of the box's sides.

    Returns:
        (B, 4) int64: top, left, height, width; inside the picture, at least one pixel.

    >>> box = torch.tensor([[20.0, 10.0, 40.0, 30.0]])
    >>> roi_window(box, torch.tensor([0.9]), torch.tensor([[100, 50]]), threshold=0.5, margin=0.25).tolist()
    [[5, 15, 30, 30]]
    """
    limit = size_hw_px.flip(1).to(box_xyxy_px)  # width, height, as x and y
    nothing = torch.zeros_like(limit)
    low = torch.minimum(torch.maximum(box_xyxy_px[:, :2], nothing), limit)
    high = torch.minimum(torch.maximum(box_xyxy_px[:, 2:], nothing), limit)
    grown = margin * (high - low)
    start = torch.maximum((low - grown).floor(), nothing)
    end = torch.minimum((high + grown).ceil(), limit)
    # a comparison with NaN is false
    found = (confidence >= threshold) & (high > low).all(1)
    start = torch.where(found[:, None], start, nothing)
    end = torch.where(found[:, None], end, limit)
    return torch.cat([start.flip(1), (end - start).flip(1)], dim=1).to(torch.int64)
