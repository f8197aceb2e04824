"""The looks at a picture that test-time augmentation takes: mirrored, and at other sizes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from errors import LoupeError
from inference.options import Inference

__all__ = ["Look", "create_looks", "refuse_sizes"]

_FLIPS: dict[str, tuple[tuple[int, ...], ...]] = {
    "none": ((),),
    "horizontal": ((), (3,)),
    "vertical": ((), (2,)),
    "both": ((), (3,), (2,), (2, 3)),
}


@dataclass(frozen=True)
class Look:
    """One way to show a picture to a network, and to put its answer back to where the picture was.

    The whole input is mirrored, the grey of a letterbox with it. Of bytes, another size is made as float in 0..1, which
    every network of ours takes as well: rounding once more would only lose something.

    Attributes:
        flips: Dimensions of (B, C, H, W) that are mirrored: 3 left and right, 2 top and bottom.
        scale: Factor of height and width.
    """

    flips: tuple[int, ...] = ()
    scale: float = 1.0

    @property
    def is_plain(self) -> bool:
        """Whether the picture is shown as it is."""
        return not self.flips and self.scale == 1.0

    def size_hw(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        """The size that a network sees for a picture of this size, at least 1."""
        return max(1, int(size_hw[0] * self.scale + 0.5)), max(1, int(size_hw[1] * self.scale + 0.5))

    def do(self, image: Tensor) -> Tensor:
        """(B, C, H, W) uint8, or float in 0..1 -> what the network is shown; bilinear, with antialiasing."""
        if self.scale != 1.0:
            image = image / 255 if image.dtype == torch.uint8 else image
            size = self.size_hw((image.shape[2], image.shape[3]))
            image = functional.interpolate(
                image, size=size, mode="bilinear", align_corners=False, antialias=True
            )
        return image.flip(self.flips) if self.flips else image

    def undo(
        self, probs: Tensor, kind: Literal["softmax", "sigmoid", "box"], size_hw: tuple[int, int]
    ) -> Tensor:
        """What was answered, as an answer for the picture as it was.

        Args:
            probs: (B, K) of the picture, which stay as they are; maps (B, K, H, W); with ``kind`` box centre x, centre
                y, width, height in 0..1 and a confidence, (B, 5).
            kind: That of the link.
            size_hw: Height and width of the picture as it was.
        """
        if kind == "box":
            x, y, rest = probs[:, :1], probs[:, 1:2], probs[:, 2:]
            return torch.cat([1 - x if 3 in self.flips else x, 1 - y if 2 in self.flips else y, rest], dim=1)
        if probs.ndim != 4:
            return probs
        probs = probs.flip(self.flips) if self.flips else probs
        if self.scale == 1.0:
            return probs
        return functional.interpolate(probs, size=size_hw, mode="bilinear", align_corners=False)


def create_looks(options: Inference) -> list[Look]:
    """Each scale in each of the flips; LoupeError for values that mean nothing."""
    if options.flips not in _FLIPS:
        raise LoupeError(f"inference.flips is '{options.flips}'; valid: {', '.join(_FLIPS)}")
    scales = [float(scale) for scale in options.scales]
    if not scales:
        raise LoupeError("inference.scales is empty; [1.0] is the size of the training")
    for scale in scales:
        if not (math.isfinite(scale) and scale > 0):
            raise LoupeError(f"inference.scales has {scale:g}; a factor of the picture's size is above 0")
    if len(set(scales)) < len(scales):
        raise LoupeError(f"inference.scales {scales} has a factor twice, which would only take time")
    return [Look(flips, scale) for scale in scales for flips in _FLIPS[options.flips]]


def refuse_sizes(
    network: nn.Module, looks: Sequence[Look], size_hw: tuple[int, int], in_channels: int
) -> None:
    """LoupeError naming the scale where a network cannot take pictures of ``size_hw`` at that scale.

    Found on the meta device: shapes only, no arithmetic. Transformers want whole patches, or one size.
    """
    state = {k: v.to("meta") for k, v in network.state_dict(keep_vars=True).items()}
    buffers = {k: v.to("meta") for k, v in network.named_buffers()}
    for scale in sorted({look.scale for look in looks} - {1.0}):
        height, width = Look(scale=scale).size_hw(size_hw)
        image = torch.zeros(1, in_channels, height, width, device="meta")
        try:
            with torch.compiler.set_stance("force_eager"), torch.no_grad():
                functional_call(network, {**state, **buffers}, (image,))
        except NotImplementedError:
            continue  # a network that looks at values: nothing is known of it before it is asked
        except (RuntimeError, ValueError, AssertionError, TypeError) as error:
            raise LoupeError(
                f"inference.scales has {scale:g}, and the network cannot take pictures of {height}x{width} "
                f"(height x width): {next(iter(str(error).splitlines()), type(error).__name__)}; leave it out, or use "
                f"a factor that gives whole patches"
            ) from error
