"""Random changes of training samples, image and annotation together."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from datamodules.geometry import GREY, VOID
from datamodules.options import Augment
from datamodules.random_operations import RandomOperations
from errors import LoupeError, unknown

__all__ = ["Augmentation", "Transform", "create_augmentation", "create_transform", "seeded"]

Transform = Callable[[dict[str, Any]], dict[str, Any]]

_PRESETS = ("none", "light", "medium", "strong", "randaugment", "trivialaugment")


class Augmentation:
    """One transform of a dict of tv_tensors at the size of the network input, for bytes and for floats in 0..1.

    Args:
        preset: see `Augment`.
        transforms: the user's own, after the preset.
        turns: whether pictures may be rotated and sheared; the box around a turned box is larger than the object.
        channels: of the pictures; colours are changed only where there are 1 or 3.
    """

    def __init__(
        self, preset: str, transforms: list[v2.Transform], *, turns: bool = True, channels: int = 3
    ) -> None:
        for_bytes, for_floats = (
            [*_steps(preset, fill, turns=turns, colours=channels in (1, 3)), *transforms]
            for fill in (GREY, GREY / 255)
        )
        self._for_bytes = v2.Compose(for_bytes)
        self._for_floats = v2.Compose(for_floats)

    def __call__(self, sample: dict[str, Any]) -> dict[str, Any]:
        """The sample, changed; its image keeps its type."""
        is_float = sample["image"].is_floating_point()
        return self._for_floats(sample) if is_float else self._for_bytes(sample)


def create_augmentation(options: Augment, *, turns: bool = True, channels: int = 3) -> Augmentation | None:
    """What the settings name, less its crop and its mixing; None where that is nothing."""
    if options.preset not in _PRESETS:
        raise unknown("data.augment.preset", options.preset, _PRESETS)
    if options.preset == "none" and not options.transforms:
        return None
    transforms = [create_transform(entry) for entry in options.transforms]
    return Augmentation(options.preset, transforms, turns=turns, channels=channels)


def create_transform(entry: Mapping[str, Any]) -> v2.Transform:
    """The transform of a `class_path` and its `init_args`; LoupeError naming the entry where there is none.

    >>> create_transform({"class_path": "torchvision.transforms.v2.RandomGrayscale", "init_args": {"p": 1.0}})
    RandomGrayscale(p=1.0)
    """
    shown = f"data.augment.transforms: {dict(entry)}"
    path, arguments = entry.get("class_path"), entry.get("init_args") or {}
    if (
        not isinstance(path, str)
        or not isinstance(arguments, Mapping)
        or set(entry) - {"class_path", "init_args"}
    ):
        raise LoupeError(f"{shown}; each is a class_path and its init_args")
    package, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(package), name)
    except (ImportError, AttributeError, ValueError):
        raise LoupeError(
            f"{shown}: there is no class {path}; give its full path, package.module.Class"
        ) from None
    if not (isinstance(found, type) and issubclass(found, v2.Transform)):
        raise LoupeError(f"{shown}: {path} is no transform of torchvision.transforms.v2")
    try:
        return found(**arguments)
    except (TypeError, ValueError, AssertionError) as error:
        raise LoupeError(f"{shown}: {error}") from error


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


def _steps(preset: str, grey: float, *, turns: bool, colours: bool) -> list[v2.Transform]:
    fill: dict[Any, Any] = {tv_tensors.Image: grey, tv_tensors.Mask: VOID}
    match preset:
        case "none":
            return []
        case "light":
            return [v2.RandomHorizontalFlip()]
        case "medium":
            colour = [v2.ColorJitter(brightness=0.2, contrast=0.2)] if colours else []
            moved = _affine(fill, degrees=10 * turns, shift=0.05, scale=(0.9, 1.1))
            return [v2.RandomHorizontalFlip(), moved, *colour]
        case "strong":
            jitter = v2.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.05)
            shear = 8 if turns else None
            return [
                v2.RandomHorizontalFlip(),
                v2.RandomVerticalFlip(p=0.2),
                _affine(fill, degrees=30 * turns, shift=0.1, scale=(0.7, 1.4), shear=shear),
                *([jitter] if colours else []),
                v2.RandomApply([v2.GaussianBlur(5, sigma=(0.1, 1.5))], p=0.2),
            ]
        case "randaugment":
            operations = RandomOperations.randaugment(fill, turns=turns, colours=colours)
            return [v2.RandomHorizontalFlip(), operations]
        case "trivialaugment":
            operations = RandomOperations.trivialaugment(fill, turns=turns, colours=colours)
            return [v2.RandomHorizontalFlip(), operations]
        case _:
            raise unknown("data.augment.preset", preset, _PRESETS)


def _affine(
    fill: dict[Any, Any],
    *,
    degrees: float,
    shift: float,
    scale: tuple[float, float],
    shear: float | None = None,
) -> v2.RandomAffine:
    return v2.RandomAffine(
        degrees=(-degrees, degrees),
        translate=(shift, shift),
        scale=scale,
        shear=shear,
        interpolation=v2.InterpolationMode.BILINEAR,
        fill=fill,
    )
