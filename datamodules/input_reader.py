"""The one way from a picture to the network's input, for training, prediction and inference."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor

from datamodules.channels import Pixels, to_channels, to_unit_range
from datamodules.geometry import Fit, plan_fit, scaled_fit
from datamodules.images import decode_image, read_bytes
from datamodules.large_jpeg import LargeJpeg
from errors import LoupeError

__all__ = ["InputReader", "as_sample", "warn_of_differences"]


class InputReader:
    """Reads a file or an array as the network wants it.

    Args:
        contract: `{"image_size": [H, W], "resize": "letterbox" | "stretch", "interpolation": "bilinear" | "bicubic",
            "in_channels": 3, "value_range": None}`, as a datamodule's `input_contract()` gives it and a checkpoint
            stores it.
        scale: network pixels for one of the picture's, for pictures of any size as they are, in place of the contract's
            image size and resize rule; None: these.

    >>> reader = InputReader({"image_size": [64, 64], "resize": "letterbox", "in_channels": 3})
    >>> reader(np.zeros((20, 40, 3), dtype=np.uint8))["image"].shape
    torch.Size([3, 64, 64])
    """

    def __init__(self, contract: Mapping[str, Any], *, scale: float | None = None) -> None:
        self.scale = scale
        height, width = contract["image_size"]
        self.size_hw = (int(height), int(width))
        self.resize = contract["resize"]
        self.interpolation = contract.get(
            "interpolation", "bilinear"
        )  # what it always was when nothing was said
        self.in_channels = int(contract["in_channels"])
        if self.in_channels < 1:
            raise LoupeError(f"data.read.in_channels is {self.in_channels}; it must be at least 1")
        given = contract.get("value_range")
        self.value_range = None if given is None else (float(given[0]), float(given[1]))
        # an unknown word is refused here, not at the first file
        plan_fit(self.size_hw, self.size_hw, self.resize, self.interpolation)

    def __call__(self, picture: str | Path | np.ndarray) -> dict[str, Tensor]:
        """A path, or an array (H, W, C) or grey (H, W), uint8, uint16 or float in 0..1 -> one sample.

        `image` (C, H, W) uint8 or float32 in 0..1, `size_hw_px` (2,) int64, `window_px` (4,) int64 and `to_original`
        (2, 3) float32.
        """
        return self.sample(picture)[0]

    def sample(
        self, picture: str | Path | np.ndarray, *, window: Callable[[Fit], Fit] | None = None
    ) -> tuple[dict[str, Tensor], Fit]:
        """The sample, and where the picture lies in it, for masks and boxes that must follow.

        `window` chooses another fit in place of that of the whole picture.
        """
        if isinstance(picture, np.ndarray):
            return self._whole(self._from_array(picture), window)
        data = read_bytes(picture)
        large = LargeJpeg.of(data, picture) if self.in_channels in (1, 3) else None
        if large is not None:
            fit = self._fit(large.size_hw_px, window)
            if large.is_worth_it_for(fit):
                return as_sample(fit.place(large.resized(fit, grey=self.in_channels == 1)), fit)
            return as_sample(fit.image(self._decode(data, picture)), fit)
        return self._whole(self._decode(data, picture), window)

    def decode(self, path: str | Path) -> Tensor:
        """The whole picture (C, H, W), upright, in the channels and the range of the network's input."""
        return self._decode(read_bytes(path), path)

    def _decode(self, data: bytes, path: str | Path) -> Tensor:
        return decode_image(data, path, self.in_channels, self.value_range)

    def _whole(self, image: Tensor, window: Callable[[Fit], Fit] | None) -> tuple[dict[str, Tensor], Fit]:
        fit = self._fit((int(image.shape[1]), int(image.shape[2])), window)
        return as_sample(fit.image(image), fit)

    def _from_array(self, array: np.ndarray) -> Tensor:
        shaped = array[:, :, None] if array.ndim == 2 else array
        known = str(shaped.dtype) in ("uint8", "uint16") or np.issubdtype(shaped.dtype, np.floating)
        channels = {self.in_channels, 1} if self.in_channels == 3 else {self.in_channels}
        if not known or shaped.ndim != 3 or shaped.shape[2] not in channels or 0 in shaped.shape:
            layout = "RGB, (H, W, 3) or (H, W)" if self.in_channels == 3 else f"(H, W, {self.in_channels})"
            raise LoupeError(
                f"a picture must be a uint8 array in {layout}, or a uint16 or float one; got {array.dtype} "
                f"{tuple(array.shape)}"
            )
        planes = np.ascontiguousarray(shaped.transpose(2, 0, 1))
        # torch warns of what may not be written to
        values = torch.from_numpy(planes if planes.flags.writeable else planes.copy())
        pixels = to_unit_range(Pixels(values), self.value_range, "the picture")
        return to_channels(pixels, self.in_channels, "the picture")

    def fit(self, size_hw_px: tuple[int, int]) -> Fit:
        """Where a picture of this size lies in the input."""
        if self.scale is not None:
            return scaled_fit(size_hw_px, self.scale, self.interpolation)
        return plan_fit(size_hw_px, self.size_hw, self.resize, self.interpolation)

    def _fit(self, size_hw_px: tuple[int, int], window: Callable[[Fit], Fit] | None) -> Fit:
        fit = self.fit(size_hw_px)
        return fit if window is None else window(fit)


def as_sample(image: Tensor, fit: Fit) -> tuple[dict[str, Tensor], Fit]:
    """The part of a sample that every task has, and the fit."""
    return {
        "image": image,
        "size_hw_px": torch.tensor(fit.size_hw_px, dtype=torch.int64),
        "window_px": torch.tensor(fit.seen, dtype=torch.int64),
        "to_original": fit.to_original,
    }, fit


def warn_of_differences(given: Mapping[str, Any], trained: Mapping[str, Any]) -> None:
    """One warning for each setting of the user that gives way to the input contract of a checkpoint."""
    for key, name, what in (
        ("image_size", "data.image_size", ""),
        ("resize", "data.read.resize", " pictures"),
        ("interpolation", "data.read.interpolation", " pictures"),
        ("in_channels", "data.read.in_channels", " channels"),
        ("value_range", "data.read.value_range", " as black and white"),
    ):
        ours, theirs = _shown(given.get(key)), _shown(trained.get(key))
        if ours not in (theirs, "auto"):
            height, _, width = ours.partition("x")
            trained_on = "their whole range" if theirs == "auto" else f"{theirs}{what}"
            rank_zero_warn(
                f"{name} {height if height == width else ours} is not used: the checkpoint's model was trained on "
                f"{trained_on}, and predicts on that",
                category=UserWarning,
            )


def _shown(value: str | int | Sequence[float] | None) -> str:
    if value is None or isinstance(value, (str, int)):
        return "auto" if value is None else str(value)
    return "x".join(f"{side:g}" for side in value)
