"""Random parts of pictures, cut from the full size before anything is thrown away."""

import math
from dataclasses import replace

import numpy as np

from datamodules.geometry import Fit, plan_fit
from datamodules.options import Augment
from errors import LoupeError

__all__ = ["RandomCrop", "create_crop"]

_RATIO = (3 / 4, 4 / 3)  # width to height of a random_resized crop
_TRIES = 10


class RandomCrop:
    """Chooses the window of a picture that a training sample shows.

    `random_resized` (Szegedy et al. 2015, section 6): a window of a random share of the area and a random shape, shown
    as the settings show whole pictures. `scale_jitter` (Ghiasi et al. 2021, section 3): the picture, at the size that
    it would have, is enlarged or shrunk by a random factor, its shape kept; what is too large is cut at random, what is
    too small lies at a random place.

    Args:
        kind: one of these.
        scale: smallest and largest share of the area, or factor of the size.
        foreground: the chance that the window is placed around the point that is given.
    """

    def __init__(self, kind: str, scale: tuple[float, float], foreground: float) -> None:
        self.kind = kind
        self.scale = scale
        self.foreground = foreground

    def wants_point(self, rng: np.random.Generator) -> bool:
        """Whether this sample's window is to be placed around an object."""
        return self.foreground > 0 and bool(rng.random() < self.foreground)

    def plan(self, fit: Fit, rng: np.random.Generator, point_yx: tuple[float, float] | None = None) -> Fit:
        """A random fit in place of `fit`; the window has `point_yx` in it, if given.

        Where `fit` is that of a window, all is as though that were the whole picture, a point outside does not count.
        """
        if fit.window is not None:
            return self._within(fit, fit.window, rng, point_yx)
        if self.kind == "random_resized":
            return self._random_resized(fit, rng, point_yx)
        return self._scale_jitter(fit, rng, point_yx)

    def _within(
        self,
        fit: Fit,
        window: tuple[int, int, int, int],
        rng: np.random.Generator,
        point_yx: tuple[float, float] | None,
    ) -> Fit:
        top, left, height, width = window
        if point_yx is not None:
            point_yx = (point_yx[0] - top, point_yx[1] - left)
            if not (0 <= point_yx[0] < height and 0 <= point_yx[1] < width):
                point_yx = None
        part = self.plan(plan_fit((height, width), fit.size_hw, fit.resize, fit.interpolation), rng, point_yx)
        y, x, h, w = part.seen
        return replace(part, size_hw_px=fit.size_hw_px, window=(top + y, left + x, h, w))

    def _random_resized(
        self, fit: Fit, rng: np.random.Generator, point_yx: tuple[float, float] | None
    ) -> Fit:
        height, width = fit.size_hw_px
        size = (height, width)
        for _ in range(_TRIES):
            area = height * width * rng.uniform(*self.scale)
            ratio = math.exp(rng.uniform(math.log(_RATIO[0]), math.log(_RATIO[1])))
            tried = (round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio)))
            if 0 < tried[0] <= height and 0 < tried[1] <= width:
                size = tried
                break
        top, left = (_place(size[axis], fit.size_hw_px[axis], axis, rng, point_yx) for axis in (0, 1))
        shown = plan_fit(size, fit.size_hw, fit.resize, fit.interpolation)
        return replace(shown, size_hw_px=fit.size_hw_px, window=(top, left, *size))

    def _scale_jitter(self, fit: Fit, rng: np.random.Generator, point_yx: tuple[float, float] | None) -> Fit:
        factor = math.exp(rng.uniform(math.log(self.scale[0]), math.log(self.scale[1])))
        window: list[int] = []
        inner: list[int] = []
        corner: list[int] = []
        start: list[int] = []
        for axis in (0, 1):
            scaled = max(1.0, fit.inner_hw[axis] * factor)
            shown = min(scaled, fit.size_hw[axis])
            inner.append(max(1, round(shown)))
            seen = min(fit.size_hw_px[axis], max(1, round(fit.size_hw_px[axis] * shown / scaled)))
            window.append(seen)
            start.append(_place(seen, fit.size_hw_px[axis], axis, rng, point_yx))
            corner.append(int(rng.integers(0, fit.size_hw[axis] - inner[axis] + 1)))
        return replace(
            fit,
            inner_hw=(inner[0], inner[1]),
            corner_yx=(corner[0], corner[1]),
            window=(start[0], start[1], window[0], window[1]),
        )


def create_crop(augment: Augment, *, has_point: bool) -> RandomCrop | None:
    """The crop of the settings; None for none. `has_point`: whether the task knows where objects are."""
    if not 0 <= augment.foreground <= 1:
        raise LoupeError(f"data.augment.foreground is {augment.foreground}; it is a chance from 0 to 1")
    if augment.crop == "none":
        for key in ("crop_scale", "foreground"):
            if getattr(augment, key):
                raise LoupeError(
                    f"data.augment.{key} is set and data.augment.crop is none; choose random_resized or scale_jitter"
                )
        return None
    if augment.foreground and not has_point:
        raise LoupeError("data.augment.foreground needs masks or boxes; a classifier's pictures have none")
    shares = augment.crop == "random_resized"
    low, high = augment.crop_scale or ((0.35, 1.0) if shares else (0.5, 2.0))
    if not 0 < low <= high < math.inf or (shares and high > 1):
        valid = (
            "shares of the area, 0 < smallest <= largest <= 1"
            if shares
            else "factors, 0 < smallest <= largest"
        )
        raise LoupeError(
            f"data.augment.crop_scale is [{low:g}, {high:g}]; for {augment.crop} they are {valid}"
        )
    return RandomCrop(augment.crop, (low, high), augment.foreground)


def _place(
    size: int, whole: int, axis: int, rng: np.random.Generator, point_yx: tuple[float, float] | None
) -> int:
    """The first pixel of a window of `size` in `whole`, anywhere, or anywhere around the point."""
    low, high = 0, whole - size
    if point_yx is not None:
        at = int(point_yx[axis])
        low, high = max(low, at - size + 1), min(high, at)
    return int(rng.integers(low, max(low, high) + 1))
