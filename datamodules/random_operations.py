"""RandAugment and TrivialAugment for pictures together with their masks and boxes."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

__all__ = ["RandomOperations"]

_BINS = 31  # magnitudes that are told apart

#: Moves everything, and turns it.
_TURNS = ("shear_x", "shear_y", "rotate")
_MOVES = ("translate_x", "translate_y")
#: Changes the picture's values alone.
_COLOURS = (
    "brightness", "color", "contrast", "sharpness", "posterize", "solarize", "auto_contrast", "equalize"
)  # fmt: skip
_SIGNED = (*_TURNS, *_MOVES, "brightness", "color", "contrast", "sharpness")

#: Largest magnitude of each operation; translations as a share of the size, or in pixels above 1.
_RANDAUGMENT = {
    "shear_x": 0.3, "shear_y": 0.3, "rotate": 30.0, "translate_x": 150 / 331, "translate_y": 150 / 331,
    "brightness": 0.9, "color": 0.9, "contrast": 0.9, "sharpness": 0.9, "posterize": 4.0, "solarize": 1.0,
}  # fmt: skip
_TRIVIALAUGMENT = {
    "shear_x": 0.99, "shear_y": 0.99, "rotate": 135.0, "translate_x": 32.0, "translate_y": 32.0,
    "brightness": 0.99, "color": 0.99, "contrast": 0.99, "sharpness": 0.99, "posterize": 6.0, "solarize": 1.0,
}  # fmt: skip


class RandomOperations(v2.Transform):
    """Applies some operations by lot; geometry moves image, mask and boxes alike, colours change the image alone.

    torchvision's own RandAugment and TrivialAugmentWide take pictures without masks and boxes only; operations and
    magnitudes are theirs (bilinear), which the tests compare.

    Args:
        largest: operation -> largest magnitude.
        count: operations one after the other.
        magnitude: bin of the magnitude, 0 to 30; None: a random one each time.
        fill: by type, for what moves into the picture.
        turns: whether to rotate and shear.
        colours: whether to change values.
    """

    def __init__(
        self,
        largest: dict[str, float],
        *,
        count: int,
        magnitude: int | None,
        fill: dict[Any, Any],
        turns: bool = True,
        colours: bool = True,
    ) -> None:
        super().__init__()
        self.largest = largest
        self.count = count
        self.magnitude = magnitude
        self.fill = fill
        self.names = ("identity", *(_TURNS if turns else ()), *_MOVES, *(_COLOURS if colours else ()))

    @classmethod
    def randaugment(cls, fill: dict[Any, Any], *, turns: bool, colours: bool) -> "RandomOperations":
        """Two operations at magnitude 9 of 30 (Cubuk et al. 2020, section 3)."""
        return cls(_RANDAUGMENT, count=2, magnitude=9, fill=fill, turns=turns, colours=colours)

    @classmethod
    def trivialaugment(cls, fill: dict[Any, Any], *, turns: bool, colours: bool) -> "RandomOperations":
        """One operation at a random magnitude (Müller and Hutter 2021, section 3, the wide space)."""
        return cls(_TRIVIALAUGMENT, count=1, magnitude=None, fill=fill, turns=turns, colours=colours)

    def forward(self, *inputs: Any) -> Any:
        """The sample, changed."""
        sample = inputs[0]
        for _ in range(self.count):
            name = self.names[int(torch.randint(len(self.names), ()))]
            place = int(torch.randint(_BINS, ())) if self.magnitude is None else self.magnitude
            sign = -1 if name in _SIGNED and bool(torch.rand(()) < 0.5) else 1
            sample = {key: self.operate(value, name, place, sign) for key, value in sample.items()}
        return sample

    def operate(self, value: Any, name: str, place: int, sign: int = 1) -> Any:
        """One operation at the magnitude bin `place` on an image, a mask or boxes."""
        share = place / (_BINS - 1)
        if name in _COLOURS:
            return self._colour(value, name, share, sign) if isinstance(value, tv_tensors.Image) else value
        if name == "identity":
            return value
        height, width = value.canvas_size if isinstance(value, tv_tensors.BoundingBoxes) else value.shape[-2:]
        most = self.largest[name]
        magnitude = sign * share * most
        angle, shift, shear = 0.0, [0.0, 0.0], [0.0, 0.0]
        centre: list[float] | None = None
        match name:
            case "shear_x" | "shear_y":
                shear[name == "shear_y"] = math.degrees(math.atan(magnitude))
                centre = [0.0, 0.0]
            case "translate_x" | "translate_y":
                side = (height if name == "translate_y" else width) if most <= 1 else 1
                shift[name == "translate_y"] = int(magnitude * side)
            case "rotate":
                return F.rotate(
                    value, magnitude, interpolation=v2.InterpolationMode.BILINEAR, fill=self._fill(value)
                )
            case _:
                raise AssertionError(name)
        return F.affine(
            value,
            angle=angle,
            translate=shift,
            scale=1.0,
            shear=shear,
            interpolation=v2.InterpolationMode.BILINEAR,
            fill=self._fill(value),
            center=centre,
        )

    def _fill(self, value: Any) -> Any:
        return self.fill.get(type(value))

    def _colour(self, image: Tensor, name: str, share: float, sign: int) -> Tensor:
        most = self.largest.get(name, 0.0)
        factors: dict[str, Callable[..., Tensor]] = {
            "brightness": F.adjust_brightness,
            "color": F.adjust_saturation,
            "contrast": F.adjust_contrast,
            "sharpness": F.adjust_sharpness,
        }
        if name in factors:
            return factors[name](image, 1.0 + sign * share * most)
        match name:
            case "posterize":
                return F.posterize(image, 8 - round(share * most))
            case "solarize":
                top = 1.0 if image.is_floating_point() else 255.0
                return F.solarize(image, top * (1 - share * most))
            case "auto_contrast":
                return F.autocontrast(image)
            case "equalize":
                return F.equalize(image)
            case _:
                raise AssertionError(name)
