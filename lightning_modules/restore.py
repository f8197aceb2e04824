"""From the network's pixels back to the picture as it was."""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["original_strips", "to_original_size"]

_VALUES = 16_000_000
"""Numbers in a strip at the original size, where the caller does not say: 64 MB."""


def to_original_size(
    probs: Tensor, to_original: Tensor, size_hw_px: Sequence[int], window_px: Sequence[int] | None = None
) -> Tensor:
    """Cut the letterbox away and resize class probabilities to the original picture.

    Args:
        probs: (C, H, W) at network size.
        to_original: (2, 3), network (x, y) -> original (x, y); scales and shifts only.
        size_hw_px: Height and width of the upright original.
        window_px: Top, left, height and width of the part that the network saw; None: all of it. Outside of it the
            class is 0, with probability 1.

    Returns:
        (C, height, width), bilinear between pixel centres.

    >>> half = torch.tensor([[2.0, 0.0, -2.0], [0.0, 2.0, 0.0]])
    >>> to_original_size(torch.ones(1, 4, 4), half, (8, 4)).shape
    torch.Size([1, 8, 4])
    """
    strips = original_strips([(0, probs)], to_original, size_hw_px, window_px, rows=size_hw_px[0])
    return torch.cat([strip for _, strip in strips], dim=1)


def original_strips(
    strips: Iterable[tuple[int, Tensor]],
    to_original: Tensor,
    size_hw_px: Sequence[int],
    window_px: Sequence[int] | None = None,
    *,
    rows: int | None = None,
) -> Iterator[tuple[int, Tensor]]:
    """As `to_original_size`, a few rows at a time, from a network's answer that may come a few rows at a time.

    Args:
        strips: (top, (C, h, W)), rows of the network's size from the first to the last, each once. A strip is not used
            any more once the next one is asked for.
        to_original: As there.
        size_hw_px: As there.
        window_px: As there.
        rows: How many original rows at most to give at a time; None: such that a strip is 64 MB.

    Yields:
        (top, (C, h, width)), all rows of the original, in order.
    """
    (sx, _, tx), (_, sy, ty) = to_original.double().tolist()
    height, width = size_hw_px
    y, x, h, w = window_px or (0, 0, height, width)
    first, left = round((y - ty) / sy), round((x - tx) / sx)
    last, right = round((y + h - ty) / sy), round((x + w - tx) / sx)
    source = _Rows(strips, first, last - first)
    rows = rows or max(1, _VALUES // (source.channels * width))
    for top in range(0, y, rows):
        yield top, source.nothing(min(rows, y - top), width)
    for top in range(0, h, rows):
        count = min(rows, h - top)
        inner = source.resized(top, count, h)[:, :, left:right]
        if inner.shape[2] != w:
            inner = functional.interpolate(
                inner[None], size=(count, w), mode="bilinear", align_corners=False
            )[0]
        if w != width:
            whole = source.nothing(count, width)
            whole[:, :, x : x + w] = inner
            inner = whole
        yield y + top, inner
    for top in range(y + h, height, rows):
        yield top, source.nothing(min(rows, height - top), width)


class _Rows:
    """The rows ``first .. first + count`` of a map that comes in strips; keeps those that are still needed."""

    def __init__(self, strips: Iterable[tuple[int, Tensor]], first: int, count: int) -> None:
        self._strips = iter(strips)
        self._first, self._count = first, count
        self._top, self._kept = next(self._strips)
        self.channels = self._kept.shape[0]

    def nothing(self, rows: int, width: int) -> Tensor:
        """Rows of class 0."""
        blank = self._kept.new_zeros((self.channels, rows, width), dtype=self._dtype)
        blank[0] = 1
        return blank

    @property
    def _dtype(self) -> torch.dtype:
        return torch.float64 if self._kept.dtype == torch.float64 else torch.float32

    def resized(self, top: int, rows: int, height: int) -> Tensor:
        """Rows ``top .. top + rows`` of what these rows are when they are resized to ``height``: (C, rows, W)."""
        if height == self._count:
            return self._between(top, top + rows).to(self._dtype)
        # pixel centres, as torch.nn.functional.interpolate has them without align_corners
        place = (torch.arange(top, top + rows, dtype=torch.float64) + 0.5) * (self._count / height) - 0.5
        place = place.clamp(min=0)
        below = place.floor().long().clamp(max=self._count - 1)
        above = (below + 1).clamp(max=self._count - 1)
        share = (place - below).to(self._kept.device, self._dtype)[:, None]
        start = int(below[0])
        source = self._between(start, int(above[-1]) + 1).to(self._dtype)
        low = source[:, (below - start).to(source.device)]
        return low.lerp_(source[:, (above - start).to(source.device)], share)

    def _between(self, start: int, end: int) -> Tensor:
        start, end = start + self._first, end + self._first
        while self._top + self._kept.shape[1] < end:
            kept = self._kept[
                :, max(0, start - self._top) :
            ].clone()  # what it was cut from may be used again
            top = self._top + self._kept.shape[1] - kept.shape[1]
            _, more = next(self._strips)
            self._top, self._kept = top, torch.cat([kept, more], dim=1)
        return self._kept[:, start - self._top : end - self._top]
