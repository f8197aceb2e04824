"""What happens to a picture before the network: to float, normalised, padded to the network's stride."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["CENTRED", "IMAGENET", "InputNormalization", "MeanStd", "pad_to_stride"]

MeanStd = tuple[Sequence[float], Sequence[float]]
"""Mean and standard deviation of each channel, of pixels in 0..1."""

IMAGENET: MeanStd = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CENTRED: MeanStd = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


class InputNormalization(nn.Module):
    """``(image / 255 - mean) / std`` for uint8, ``(image - mean) / std`` for floats in 0..1, (B, C, H, W).

    ``mean`` and ``std`` are non-persistent buffers, so they follow the module's device and dtype and the
    checkpoint does not hold what the encoder's name already says. Other numbers of channels than three: one
    channel takes the average of the three, more take them in turn, as SMP and timm do with the weights of the
    first convolution.

    >>> InputNormalization(CENTRED)(torch.full((1, 3, 1, 1), 255, dtype=torch.uint8)).flatten().tolist()
    [1.0, 1.0, 1.0]
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean_std: MeanStd, *, in_channels: int = 3) -> None:
        super().__init__()
        for name, values in zip(("mean", "std"), mean_std, strict=True):
            values = [sum(values) / len(values)] if in_channels == 1 else list(values)
            cycled = [values[channel % len(values)] for channel in range(in_channels)]
            self.register_buffer(name, torch.tensor(cycled).view(1, -1, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """uint8, or float in 0..1; the output has the dtype of the module."""
        if not image.is_floating_point() and image.dtype != torch.uint8:
            raise TypeError(f"image must be uint8, or float in 0..1, got {image.dtype}")
        if image.ndim != 4 or image.shape[1] != self.mean.shape[1]:
            raise ValueError(f"image must be (B, {self.mean.shape[1]}, H, W), got {tuple(image.shape)}")
        x = image.to(self.mean.dtype)
        if image.dtype == torch.uint8:
            x = x / 255
        return (x - self.mean) / self.std


def pad_to_stride(image: Tensor, stride: int, smallest: int = 1) -> Tensor:
    """Grow (B, C, H, W) at the right and at the bottom to multiples of ``stride``.

    At least to ``smallest``, which is a multiple itself. By reflection, which continues textures; pictures too
    small for that repeat their last row and column. Pixel (0, 0) stays where it is, so logits are cut back with
    ``[..., :H, :W]``.

    >>> pad_to_stride(torch.zeros(1, 3, 37, 64), 32).shape
    torch.Size([1, 3, 64, 64])
    """
    height, width = image.shape[-2:]
    bottom = max(-height % stride, smallest - height)
    right = max(-width % stride, smallest - width)
    if not bottom and not right:
        return image
    mode = "reflect" if bottom < height and right < width else "replicate"
    return functional.pad(image, (0, right, 0, bottom), mode=mode)
