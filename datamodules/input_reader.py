"""The one way from a picture to the network's input, for training, prediction and inference."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor

from datamodules.geometry import Fit, plan_fit
from datamodules.images import decode_image, read_bytes
from datamodules.large_jpeg import LargeJpeg
from errors import LoupeError

__all__ = ["InputReader", "warn_of_differences"]


class InputReader:
    """Reads a file or an array as the network wants it.

    Args:
        contract: `{"image_size": [H, W], "resize": "letterbox" | "stretch", "interpolation": "bilinear" | "bicubic",
            "in_channels": 3}`, as a datamodule's `input_contract()` gives it and a checkpoint stores it.

    >>> reader = InputReader({"image_size": [64, 64], "resize": "letterbox", "in_channels": 3})
    >>> reader(np.zeros((20, 40, 3), dtype=np.uint8))["image"].shape
    torch.Size([3, 64, 64])
    """

    def __init__(self, contract: Mapping[str, Any]) -> None:
        height, width = contract["image_size"]
        self.size_hw = (int(height), int(width))
        self.resize = contract["resize"]
        self.interpolation = contract.get(
            "interpolation", "bilinear"
        )  # what it always was when nothing was said
        if contract["in_channels"] != 3:
            raise LoupeError(f"pictures are read with 3 channels; this model wants {contract['in_channels']}")
        # an unknown word is refused here, not at the first file
        plan_fit(self.size_hw, self.size_hw, self.resize, self.interpolation)

    def __call__(self, picture: str | Path | np.ndarray) -> dict[str, Tensor]:
        """A path, or an RGB array (H, W, 3) or grey (H, W) uint8 -> one sample.

        `image` (3, H, W) uint8, `size_hw_px` (2,) int64 and `to_original` (2, 3) float32.
        """
        return self.sample(picture)[0]

    def sample(self, picture: str | Path | np.ndarray) -> tuple[dict[str, Tensor], Fit]:
        """The sample, and where the picture lies in it, for masks and boxes that must follow."""
        if isinstance(picture, np.ndarray):
            return self._whole(_from_array(picture))
        data = read_bytes(picture)
        large = LargeJpeg.of(data, picture)
        if large is not None:
            fit = self._fit(large.size_hw_px)
            if large.is_worth_it_for(fit.inner_hw):
                return _sample(fit.place(large.resized(fit.inner_hw, fit.interpolation)), fit)
        return self._whole(decode_image(data, picture))

    def _whole(self, image: Tensor) -> tuple[dict[str, Tensor], Fit]:
        fit = self._fit((int(image.shape[1]), int(image.shape[2])))
        return _sample(fit.image(image), fit)

    def _fit(self, size_hw_px: tuple[int, int]) -> Fit:
        return plan_fit(size_hw_px, self.size_hw, self.resize, self.interpolation)


def _sample(image: Tensor, fit: Fit) -> tuple[dict[str, Tensor], Fit]:
    return {
        "image": image,
        "size_hw_px": torch.tensor(fit.size_hw_px, dtype=torch.int64),
        "to_original": fit.to_original,
    }, fit


def _from_array(array: np.ndarray) -> Tensor:
    if array.ndim == 2:
        array = np.repeat(array[:, :, None], 3, axis=2)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise LoupeError(
            f"a picture must be a uint8 array (H, W, 3) in RGB or (H, W); got {array.dtype} {tuple(array.shape)}"
        )
    return torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1)))


def warn_of_differences(given: Mapping[str, Any], trained: Mapping[str, Any]) -> None:
    """One warning for each setting of the user that gives way to the input contract of a checkpoint."""
    for key, name, what in (
        ("image_size", "data.image_size", ""),
        ("resize", "data.read.resize", " pictures"),
        ("interpolation", "data.read.interpolation", " pictures"),
    ):
        ours, theirs = _shown(given[key]), _shown(trained[key])
        if ours not in (theirs, "auto"):
            height, _, width = ours.partition("x")
            rank_zero_warn(
                f"{name} {height if height == width else ours} is not used: the checkpoint's model was trained on "
                f"{theirs}{what}, and predicts on that",
                category=UserWarning,
            )


def _shown(value: str | Sequence[int]) -> str:
    return value if isinstance(value, str) else "x".join(str(side) for side in value)
