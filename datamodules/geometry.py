"""From a picture of any size to the network's input, and the map back; training and inference share it."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from datamodules.options import Interpolation, Resize
from errors import unknown

__all__ = ["GREY", "VOID", "Fit", "fit_to", "plan_fit", "scaled_fit", "seen_through"]

GREY = 114  # mean of ImageNet's three channel means: padding is near 0 after normalisation
VOID = 255  # "no label here" in every mask tensor

_MODES = {"bilinear": InterpolationMode.BILINEAR, "bicubic": InterpolationMode.BICUBIC}


@dataclass(frozen=True)
class Fit:
    """Where a picture of `size_hw_px`, or a window of it, lies inside a network input of `size_hw`.

    Args:
        size_hw_px: height and width of the upright original, pixels.
        size_hw: height and width of the network input, pixels.
        inner_hw: height and width that the picture, or its window, has there.
        corner_yx: its upper left pixel there.
        interpolation: between the picture's pixels.
        window: y, x, height and width of the part of the original that is seen, pixels; None: all of it.
        resize: the rule that made it.
    """

    size_hw_px: tuple[int, int]
    size_hw: tuple[int, int]
    inner_hw: tuple[int, int]
    corner_yx: tuple[int, int]
    interpolation: Interpolation = "bilinear"
    window: tuple[int, int, int, int] | None = None
    resize: Resize = "letterbox"

    @property
    def seen(self) -> tuple[int, int, int, int]:
        """The window, also where it is the whole picture."""
        return self.window or (0, 0, *self.size_hw_px)

    @property
    def whole_hw(self) -> tuple[int, int]:
        """The size that the whole picture would have at the window's scale, pixels of the network input."""
        _, _, h, w = self.seen
        return (
            round(self.inner_hw[0] * self.size_hw_px[0] / h),
            round(self.inner_hw[1] * self.size_hw_px[1] / w),
        )

    @property
    def to_original(self) -> Tensor:
        """(2, 3) float32: network (x, y) -> original (x, y), `M @ [x, y, 1]`; pixel i covers [i, i + 1)."""
        top, left, height, width = self.seen
        sy, sx = height / self.inner_hw[0], width / self.inner_hw[1]
        y, x = self.corner_yx
        return torch.tensor([[sx, 0.0, left - x * sx], [0.0, sy, top - y * sy]], dtype=torch.float32)

    def image(self, image: Tensor) -> Tensor:
        """(C, h, w) uint8, or float in 0..1 -> (C, H, W) of the same type, with antialiasing, grey around."""
        resized = self._resized(image, _MODES[self.interpolation])
        if resized.is_floating_point() and self.interpolation == "bicubic":
            resized = resized.clamp(0, 1)  # it overshoots at edges, which bytes cannot
        return self.place(resized)

    def mask(self, mask: Tensor) -> Tensor:
        """(h, w) uint8 -> (H, W) uint8, nearest, void (255) around."""
        return self.place(self._resized(mask[None], InterpolationMode.NEAREST_EXACT), VOID)[0]

    def box(self, box_xyxy_px: Tensor) -> Tensor:
        """(..., 4) float x1, y1, x2, y2 in original pixels -> in pixels of the network input, cut at the window."""
        (y, x), (top, left, height, width) = self.corner_yx, self.seen
        sy, sx = self.inner_hw[0] / height, self.inner_hw[1] / width
        shift = box_xyxy_px.new_tensor([x - left * sx, y - top * sy] * 2)
        moved = box_xyxy_px * box_xyxy_px.new_tensor([sx, sy, sx, sy]) + shift
        if self.window is None:
            return moved
        low = box_xyxy_px.new_tensor([x, y] * 2)
        high = box_xyxy_px.new_tensor([x + self.inner_hw[1], y + self.inner_hw[0]] * 2)
        return torch.minimum(torch.maximum(moved, low), high)

    def place(self, picture: Tensor, fill: int = GREY) -> Tensor:
        """(C, h, w) of the size that the picture has in the network input -> (C, H, W), `fill` around."""
        assert tuple(picture.shape[-2:]) == self.inner_hw
        if self.inner_hw == self.size_hw:
            return picture
        (y, x), (h, w) = self.corner_yx, self.inner_hw
        colour = fill / 255 if picture.is_floating_point() else fill
        # pixel by pixel in memory, as decoders leave pictures and convolutions like them
        canvas = picture.new_full((*self.size_hw, picture.shape[0]), colour).permute(2, 0, 1)
        canvas[:, y : y + h, x : x + w] = picture
        return canvas

    def _resized(self, picture: Tensor, interpolation: InterpolationMode) -> Tensor:
        assert tuple(picture.shape[-2:]) == self.size_hw_px
        if self.window is not None:
            top, left, height, width = self.window
            picture = picture[..., top : top + height, left : left + width]
        if self.inner_hw == self.seen[2:]:
            return picture
        return F.resize(picture, list(self.inner_hw), interpolation=interpolation, antialias=True)


def plan_fit(
    size_hw_px: tuple[int, int],
    size_hw: tuple[int, int],
    resize: Resize,
    interpolation: Interpolation = "bilinear",
) -> Fit:
    """The place of a picture of `size_hw_px` in an input of `size_hw`; letterbox centres it.

    >>> plan_fit((100, 200), (64, 64), "letterbox").inner_hw
    (32, 64)
    """
    match resize:
        case "stretch":
            inner = size_hw
        case "letterbox":
            scale = min(size_hw[0] / size_hw_px[0], size_hw[1] / size_hw_px[1])
            inner = (max(1, round(size_hw_px[0] * scale)), max(1, round(size_hw_px[1] * scale)))
        case _:
            raise unknown("data.read.resize", resize, ["letterbox", "stretch"])
    if interpolation not in _MODES:
        raise unknown("data.read.interpolation", interpolation, [*_MODES, "auto"])
    corner = ((size_hw[0] - inner[0]) // 2, (size_hw[1] - inner[1]) // 2)
    return Fit(size_hw_px, size_hw, inner, corner, interpolation, resize=resize)


def scaled_fit(size_hw_px: tuple[int, int], scale: float, interpolation: Interpolation = "bilinear") -> Fit:
    """The whole picture at `scale` network pixels for one of its own, with nothing around it.

    >>> scaled_fit((100, 201), 0.5).size_hw
    (50, 100)
    """
    height, width = (max(1, round(side * scale)) for side in size_hw_px)
    return Fit(size_hw_px, (height, width), (height, width), (0, 0), interpolation, resize="stretch")


def seen_through(fit: Fit, window: tuple[int, int, int, int]) -> Fit:
    """The fit of a part of the picture (top, left, height, width in its pixels) in place of that of all of it.

    A window of no height stands for the whole picture.

    >>> seen_through(plan_fit((100, 200), (64, 64), "letterbox"), (10, 20, 80, 40)).inner_hw
    (64, 32)
    """
    if not window[2] or window == (0, 0, *fit.size_hw_px):
        return fit
    shown = plan_fit(window[2:], fit.size_hw, fit.resize, fit.interpolation)
    return replace(shown, size_hw_px=fit.size_hw_px, window=window)


def fit_to(image: Tensor, size_hw: tuple[int, int], resize: Resize) -> tuple[Tensor, Tensor]:
    """(C, h, w) uint8 -> the network input (C, H, W) uint8 and `to_original` (2, 3) float32."""
    fit = plan_fit((image.shape[-2], image.shape[-1]), size_hw, resize)
    return fit.image(image), fit.to_original
