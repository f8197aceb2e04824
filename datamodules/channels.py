"""From what a file holds to what the network is given: value range, transparency, number of channels."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from errors import LoupeError

__all__ = ["Pixels", "collate", "to_channels", "to_display", "to_unit_range"]

ValueRange = tuple[float, float]

#: Share of red, green and blue in brightness, in 65536ths: ITU-R BT.601, as Pillow has it.
_BRIGHTNESS = (19595, 38470, 7471)


@dataclass(frozen=True)
class Pixels:
    """What a decoder made of a file.

    Args:
        values: (C, H, W), uint8 or anything deeper.
        has_alpha: whether the last channel is opacity.
    """

    values: Tensor
    has_alpha: bool = False


def to_unit_range(pixels: Pixels, value_range: ValueRange | None, path: str | Path) -> Pixels:
    """8 bits as they are; anything deeper as float32 in 0..1, `value_range` being mapped to its ends.

    Without a range unsigned 16-bit values go from 0 to 65535, and floats must lie in 0..1 already. Raises LoupeError
    naming the file where a range is needed.
    """
    values = pixels.values
    if values.dtype == torch.uint8:
        return pixels
    if values.is_floating_point() and not bool(torch.isfinite(values).all()):
        raise LoupeError(f"{path} holds values that are no numbers (NaN or infinite)")
    if value_range is not None:
        low, high = value_range
        if not 0 < high - low < float("inf"):
            raise LoupeError(f"data.read.value_range is {value_range}; the first must be below the second")
    elif values.dtype == torch.uint16:
        low, high = 0.0, 65535.0
    else:
        lowest, highest = (float(value) for value in values.double().aminmax())
        if not values.is_floating_point() or not (lowest >= 0 and highest <= 1):
            raise LoupeError(
                f"{path} holds {str(values.dtype).removeprefix('torch.')} values from {lowest:g} to {highest:g}; say "
                f"which are black and white: data.read.value_range='[{lowest:g}, {highest:g}]'"
            )
        low, high = 0.0, 1.0
    scaled = (values.to(torch.float32) - low) / (high - low)
    return Pixels(scaled.clamp_(0, 1), pixels.has_alpha)


def to_channels(pixels: Pixels, in_channels: int, path: str | Path) -> Tensor:
    """(in_channels, H, W): 3 is RGB, 1 is brightness, another number must be the file's own.

    For RGB and grey transparent pixels are laid over white, and grey is repeated or colour weighed. Raises LoupeError
    naming the file where its channels are others.
    """
    values, held = pixels.values, pixels.values.shape[0]
    if held == in_channels and not (pixels.has_alpha and in_channels in (1, 3)):
        return values
    colours = held - pixels.has_alpha
    if in_channels not in (1, 3) or colours not in (1, 3):
        alpha = " (the last is opacity)" if pixels.has_alpha else ""
        raise LoupeError(f"{path} has {held} channels{alpha}, and data.read.in_channels is {in_channels}")
    if pixels.has_alpha:
        values = _over_white(values)
    if in_channels == colours:
        return values
    return values.expand(3, -1, -1).contiguous() if in_channels == 3 else _brightness(values)


def to_display(values: Tensor) -> np.ndarray:
    """(C, H, W) uint8, or float in 0..1 -> (H, W, 3) uint8 for the eye: the first three channels, or the first."""
    if values.is_floating_point():
        values = (values * 255).round().to(torch.uint8)
    shown = values[:3] if values.shape[0] >= 3 else values[:1].expand(3, -1, -1)
    return np.ascontiguousarray(shown.permute(1, 2, 0).numpy())


def collate(pictures: list[Tensor]) -> Tensor:
    """Pictures of one size as a batch: uint8, or float in 0..1 where one of them is deeper than 8 bits.

    In memory pixel by pixel (channels last), which networks want anyway, and which for most pictures is a plain copy.
    """
    if not all(picture.dtype == torch.uint8 for picture in pictures):
        pictures = [p if p.is_floating_point() else p.to(torch.float32) / 255 for p in pictures]
    return torch.stack([picture.permute(1, 2, 0) for picture in pictures]).permute(0, 3, 1, 2)


def _over_white(values: Tensor) -> Tensor:
    colour, alpha = values[:-1], values[-1:]
    if values.is_floating_point():
        return colour * alpha + (1 - alpha)
    if int(alpha.min()) == 255:
        return colour
    weight = alpha.to(torch.int32)
    return ((colour * weight + 255 * (255 - weight) + 127) // 255).to(torch.uint8)


def _brightness(values: Tensor) -> Tensor:
    red, green, blue = _BRIGHTNESS
    if values.is_floating_point():
        return ((values[0] * red + values[1] * green + values[2] * blue) / 65536)[None]
    wide = values.to(torch.int32)
    return ((wide[0] * red + wide[1] * green + wide[2] * blue + 32768) >> 16).to(torch.uint8)[None]
