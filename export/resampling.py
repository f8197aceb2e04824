"""The resize rule of `datamodules.geometry` and the way back, in tensor operations that every export format has."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from errors import unknown

__all__ = ["Place", "Resample", "Way", "interpolating", "place", "restoring"]

_GREY = 114  # as datamodules.geometry.GREY
_REACH = {"bilinear": 1, "bicubic": 2}
_A = -0.5  # Keys's parameter, with which Pillow and torch resize where they antialias
_MOST_BITS = 22


class Place(NamedTuple):
    """Where a picture, or a window of it, lies in the network's input: `datamodules.geometry.Fit` for a batch.

    N is the size of the batch, or 1 for all of it; int64, height before width.

    Attributes:
        start: (N, 2) the window's upper left pixel in the picture.
        length: (N, 2) its size there.
        inner: (N, 2) the size that it has in the network's input.
        corner: (N, 2) its upper left pixel there.
    """

    start: Tensor
    length: Tensor
    inner: Tensor
    corner: Tensor


def place(window: Tensor, size_hw: tuple[int, int], resize: str) -> Place:
    """As `datamodules.geometry.plan_fit`, to the last pixel: halves are rounded to even numbers, in float64.

    Args:
        window: (N, 4) int64 top, left, height, width, pixels of the picture.
        size_hw: Height and width of the network's input, pixels.
        resize: letterbox or stretch.

    >>> place(torch.tensor([[0, 0, 100, 200]]), (64, 64), "letterbox").inner.tolist()
    [[32, 64]]
    """
    start, length = window[:, :2], window[:, 2:]
    size = torch.tensor([size_hw], dtype=torch.int64)
    match resize:
        case "stretch":
            inner = size.expand_as(length)
        case "letterbox":
            sides = length.to(torch.float64)
            scale = (size.to(torch.float64) / sides).amin(1, keepdim=True)
            inner = (sides * scale).round().to(torch.int64).clamp(min=1)
        case _:
            raise unknown("data.read.resize", resize, ["letterbox", "stretch"])
    return Place(start, length, inner, (size - inner) // 2)


def interpolating(
    where: Place, axis: int, pixels: int, size: int, interpolation: str, *, whole: bool
) -> Tensor:
    """Weights (N, size, pixels) float32 with which each pixel of the network's input is a mean of the picture's.

    Triangle for bilinear and Keys's cubic (a = -0.5) for bicubic, stretched where the picture shrinks, cut at the
    window's border, and of sum 1: the rule of Pillow's and torch's antialiased kernels. Rows outside of the inner
    part are 0. Distances are differences of whole numbers, so float32 is enough for a picture of any size.

    Args:
        where: The place.
        axis: 0 along the height, 1 along the width.
        pixels: Of the picture along the axis.
        size: Of the network's input along the axis.
        interpolation: bilinear or bicubic.
        whole: Round the weights to 16 bits, as the kernels for bytes do.
    """
    start, length, inner, corner = (value[:, axis, None, None] for value in where)
    to = torch.arange(size, dtype=torch.int64)[None, :, None] - corner
    of = torch.arange(pixels, dtype=torch.int64)[None, None, :] - start
    distance = (2 * to + 1) * length - (2 * of + 1) * inner
    x = distance.to(torch.float32).abs() / (2 * torch.maximum(length, inner)).to(torch.float32)
    seen = ((of >= 0) & (of < length)).to(torch.float32)
    shown = ((to >= 0) & (to < inner)).to(torch.float32)
    weights = _kernel(x, interpolation) * seen * shown
    weights = weights / (weights.sum(2, keepdim=True) + (1 - shown))
    return _to_16_bits(weights) if whole else weights


def _kernel(x: Tensor, interpolation: str) -> Tensor:
    """Of distances from 0 on."""
    match interpolation:
        case "bilinear":
            return (1 - x).clamp(min=0)
        case "bicubic":
            near = ((_A + 2) * x - (_A + 3)) * x * x + 1
            far = (((x - 5) * x + 8) * x - 4) * _A
            return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))
        case _:
            raise unknown("data.read.interpolation", interpolation, [*_REACH])


def _to_16_bits(weights: Tensor) -> Tensor:
    """Multiples of 2^-p, with the largest p up to 22 for which the largest weight is below 2^15 of them.

    torch's `_compute_index_ranges_int16_weights` (aten/src/ATen/native/cpu/UpSampleKernel.cpp).
    """
    largest = weights.amax((1, 2), keepdim=True)
    powers = torch.tensor([2.0**p for p in range(1, _MOST_BITS + 1)])
    unit = torch.where(largest * powers < 2**15 - 0.5, powers, torch.ones_like(powers)).amax(2, keepdim=True)
    return torch.sign(weights) * torch.floor(weights.abs() * unit + 0.5) / unit


def restoring(where: Place, axis: int, size: int, pixels: int) -> tuple[Tensor, Tensor]:
    """Weights (N, pixels, size) float32 with which each pixel of the picture is a mean of the network's input.

    Bilinear between pixel centres, without antialiasing, the border pixel repeated: torch's ``interpolate`` with
    ``align_corners=False`` of the inner part. Also (N, pixels) float32: 1 in the window, where the rows are not 0.
    """
    start, length, inner, corner = (value[:, axis, None, None] for value in where)
    to = torch.arange(pixels, dtype=torch.int64)[None, :, None] - start
    of = torch.arange(size, dtype=torch.int64)[None, None, :] - corner
    source = torch.minimum(((2 * to + 1) * inner - length).clamp(min=0), 2 * length * (inner - 1))
    x = (source - 2 * length * of).to(torch.float32).abs() / (2 * length).to(torch.float32)
    seen = ((to >= 0) & (to < length)).to(torch.float32)
    return (1 - x).clamp(min=0) * seen, seen[:, :, 0]


class Way(NamedTuple):
    """From pictures of H x W pixels to a network's input of h x w, and back.

    Attributes:
        rows: (N, 1, h, H) weights along the height.
        columns: (N, 1, W, w) weights along the width.
        shown: (N, 1, h, w) 1 where the input shows the picture, 0 in the grey around it.
        size: (1, 1, 2) width and height of the network's input.
        scale: (N, 1, 2) pixels of the picture for one of the input, along x and y.
        shift: (N, 1, 2) x and y in the picture of the input's upper left corner.
        limit: (1, 1, 2) width and height of the pictures.
        rows_back: (N, 1, H, h) weights along the height; None where no maps go back.
        columns_back: (N, 1, w, W) weights along the width.
        outside: (N, 1, H, W) 1 outside of the window, 0 in it.
    """

    rows: Tensor
    columns: Tensor
    shown: Tensor
    size: Tensor
    scale: Tensor
    shift: Tensor
    limit: Tensor
    rows_back: Tensor | None = None
    columns_back: Tensor | None = None
    outside: Tensor | None = None

    def maps_back(self, probs: Tensor) -> Tensor:
        """Class probabilities (B, K, h, w) -> (B, K, H, W) of the pictures, as `lightning_modules.restore`.

        What lies outside of the window is class 0 for certain.
        """
        assert self.rows_back is not None and self.columns_back is not None and self.outside is not None
        restored = torch.matmul(torch.matmul(self.rows_back, probs), self.columns_back)
        if probs.shape[1] == 1:
            return restored
        return torch.cat([restored[:, :1] + self.outside, restored[:, 1:]], dim=1)

    def boxes_back(self, corners: Tensor) -> Tensor:
        """Boxes (B, 4) x1, y1, x2, y2 in 0..1 of the input -> pixels of the pictures, cut at their borders."""
        points = corners.reshape(-1, 2, 2) * self.size * self.scale + self.shift
        return torch.minimum(points.clamp(min=0), self.limit).flatten(1)


class Resample(nn.Module):
    """Pictures (B, C, H, W) of one size -> the network's input (B, C, h, w), as `InputReader` makes it of an array.

    Bytes are resized as torch does on processors with AVX2: along the width, then along the height, with weights of
    16 bits, and rounded to bytes after each. Floats are not rounded. For pictures of a fixed size all weights are
    constants.

    Args:
        contract: As `InputReader` takes it.
        floats: Pictures are float32 in 0..1, not uint8.
        picture_size: Height and width of all pictures, where they are one; None: any.
        maps: Maps of probabilities will go back.
    """

    def __init__(
        self,
        contract: Mapping[str, Any],
        *,
        floats: bool = False,
        picture_size: tuple[int, int] | None = None,
        maps: bool = False,
    ) -> None:
        super().__init__()
        height, width = contract["image_size"]
        self.size_hw = (int(height), int(width))
        self.in_channels = int(contract["in_channels"])
        self.resize = str(contract["resize"])
        self.interpolation = str(contract.get("interpolation", "bilinear"))
        self.floats = floats
        self.picture_size = picture_size
        self.maps = maps
        fixed = self._way(*picture_size, None)._asdict() if picture_size else {}
        for name, value in fixed.items():
            # contiguous, since ExecuTorch 1.5.1 loses track of other constants that no state dict holds; mended by
            # https://github.com/pytorch/executorch/pull/22901
            value = None if value is None else value.contiguous()
            self.register_buffer(f"fixed_{name}", value, persistent=False)

    def forward(self, image: Tensor, window: Tensor | None = None) -> tuple[Tensor, Way]:
        """The network's input, of the dtype of the pictures, and the way that it took.

        ``window`` (B, 4) int64 is what it shows: top, left, height, width, pixels of the pictures; None: all.
        """
        if self.picture_size and window is None:
            way = Way(*(getattr(self, f"fixed_{name}") for name in Way._fields))
            if self.picture_size == self.size_hw:
                return image, way
        else:
            way = self._way(*(self.picture_size or (image.shape[2], image.shape[3])), window)
        values = self._rounded(torch.matmul(image.to(torch.float32), way.columns))
        values = self._rounded(torch.matmul(way.rows, values))
        if self.floats and self.interpolation == "bicubic":
            values = values.clamp(0, 1)
        values = values * way.shown + (1 - way.shown) * (_GREY / 255 if self.floats else _GREY)
        return values if self.floats else values.to(torch.uint8), way

    def _rounded(self, values: Tensor) -> Tensor:
        return values if self.floats else torch.floor(values + 0.5).clamp(0, 255)

    def _way(self, height: int, width: int, window: Tensor | None) -> Way:
        picture, ends = (
            (height, width),
            [torch.full((1,), side, dtype=torch.int64) for side in (height, width)],
        )
        limit = torch.stack(ends, dim=1)
        if window is None:
            window = torch.cat([torch.zeros_like(limit), limit], dim=1)
        where = place(window, self.size_hw, self.resize)
        rows, columns = (
            interpolating(where, axis, picture[axis], size, self.interpolation, whole=not self.floats)[
                :, None
            ]
            for axis, size in enumerate(self.size_hw)
        )
        scale = where.length.to(torch.float64) / where.inner.to(torch.float64)
        shift = where.start.to(torch.float64) - where.corner.to(torch.float64) * scale
        size = torch.tensor([[[self.size_hw[1], self.size_hw[0]]]], dtype=torch.float32)
        scale, shift, limit = (value.flip(1).to(torch.float32)[:, None] for value in (scale, shift, limit))
        way = Way(rows, columns.transpose(2, 3), self._shown(where), size, scale, shift, limit)
        if not self.maps:
            return way
        (down, seen_y), (across, seen_x) = (
            restoring(where, axis, size, picture[axis]) for axis, size in enumerate(self.size_hw)
        )
        outside = 1 - seen_y[:, None, :, None] * seen_x[:, None, None, :]
        return way._replace(
            rows_back=down[:, None], columns_back=across[:, None].transpose(2, 3), outside=outside
        )

    def _shown(self, where: Place) -> Tensor:
        down, across = (
            ((at >= where.corner[:, axis, None]) & (at < (where.corner + where.inner)[:, axis, None]))
            for axis, at in enumerate(torch.arange(size, dtype=torch.int64)[None] for size in self.size_hw)
        )
        return (down[:, None, :, None] & across[:, None, None, :]).to(torch.float32)
