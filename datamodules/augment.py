"""Random changes of training samples, image and annotation together."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from datamodules.geometry import GREY, VOID
from errors import unknown

__all__ = ["Transform", "create_augmentation", "seeded"]

Transform = Callable[[dict[str, Any]], dict[str, Any]]

_FILL: dict[Any, Any] = {tv_tensors.Image: GREY, tv_tensors.Mask: VOID}


def create_augmentation(preset: str, *, turns: bool = True) -> Transform | None:
    """A preset as one transform of a dict of tv_tensors at the size of the network input; None for `none`.

    Without `turns` pictures are neither rotated nor sheared: the box around a turned box is larger than the object.
    """
    match preset:
        case "none":
            return None
        case "light":
            return v2.RandomHorizontalFlip()
        case "medium":
            return v2.Compose(
                [
                    v2.RandomHorizontalFlip(),
                    _affine(degrees=10 * turns, shift=0.05, scale=(0.9, 1.1)),
                    v2.ColorJitter(brightness=0.2, contrast=0.2),
                ]
            )
        case "strong":
            return v2.Compose(
                [
                    v2.RandomHorizontalFlip(),
                    v2.RandomVerticalFlip(p=0.2),
                    _affine(degrees=30 * turns, shift=0.1, scale=(0.7, 1.4), shear=8 if turns else None),
                    v2.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.05),
                    v2.RandomApply([v2.GaussianBlur(5, sigma=(0.1, 1.5))], p=0.2),
                ]
            )
        case _:
            raise unknown("data.augment.preset", preset, ["none", "light", "medium", "strong"])


class seeded:  # noqa: N801  a context manager reads as a verb
    """Within it, torch's CPU randomness is a pure function of the three numbers; before and after, untouched.

    Only the CPU generator is set: `torch.manual_seed` would also reseed the GPU under the training step's feet.
    """

    def __init__(self, seed: int, epoch: int, position: int) -> None:
        self._seed = int(np.random.SeedSequence([seed, epoch, position]).generate_state(1, np.uint64)[0] >> 1)

    def __enter__(self) -> None:
        self._before = torch.get_rng_state()
        torch.random.default_generator.manual_seed(self._seed)

    def __exit__(self, *_: object) -> None:
        torch.set_rng_state(self._before)


def _affine(
    *, degrees: float, shift: float, scale: tuple[float, float], shear: float | None = None
) -> v2.RandomAffine:
    return v2.RandomAffine(
        degrees=(-degrees, degrees),
        translate=(shift, shift),
        scale=scale,
        shear=shear,
        interpolation=v2.InterpolationMode.BILINEAR,
        fill=_FILL,
    )
