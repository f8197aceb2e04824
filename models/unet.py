"""The standard U-Net, trained from scratch."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from errors import LoupeError
from models.norm import create_norm

__all__ = ["UNet"]


class UNet(nn.Module):
    """U-Net of Ronneberger et al. 2015 (figure 1), with padding and normalisation: (B, C, H, W) -> (B, K, H, W).

    Each level is two 3x3 convolutions (no bias) with norm and ReLU; ``depth`` max-pools halve the picture and
    double the ``base_filters``; 2x2 up-convolutions, skip concatenation and a 1x1 convolution give the
    logits. H and W must be divisible by ``stride``, 2^depth. Convolutions start with He et al.'s scale, as
    the paper does (section 3).

    ``norm="group"`` (32 groups, or as many as divide the channels) has no statistics over the batch, so any
    split of a batch over processes gives the same weights.

    >>> sum(p.numel() for p in UNet(num_classes=2).parameters())
    31037698
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int = 3,
        base_filters: int = 64,
        depth: int = 4,
        norm: str = "batch",
    ) -> None:
        super().__init__()
        if base_filters < 1 or depth < 1:
            raise LoupeError(f"unet: base_filters and depth are at least 1, got {base_filters} and {depth}")
        self.stride = 2**depth
        filters = [base_filters * 2**level for level in range(depth + 1)]
        self.encoder = _Encoder([in_channels, *filters], norm)
        self.decoder = _Decoder(filters[::-1], norm)
        self.head = nn.Conv2d(base_filters, num_classes, kernel_size=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module is not self.head:
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, image: Tensor) -> Tensor:
        """Normalised float image (B, C, H, W) -> logits (B, K, H, W)."""
        return self.head(self.decoder(self.encoder(image)))


class _Encoder(nn.Module):
    """The contracting path: one feature map a level, the largest first."""

    def __init__(self, channels: list[int], norm: str) -> None:
        super().__init__()
        self.levels = nn.ModuleList(_double_conv(a, b, norm) for a, b in pairwise(channels))
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> list[Tensor]:
        features: list[Tensor] = []
        for level, convs in enumerate(self.levels):
            x = convs(self.pool(x) if level else x)
            features.append(x)
        return features


class _Decoder(nn.Module):
    """The expanding path: doubles the picture and takes in the skip of that size, level by level."""

    def __init__(self, channels: list[int], norm: str) -> None:
        super().__init__()
        self.ups = nn.ModuleList(
            nn.ConvTranspose2d(a, b, kernel_size=2, stride=2) for a, b in pairwise(channels)
        )
        self.levels = nn.ModuleList(_double_conv(a, b, norm) for a, b in pairwise(channels))

    def forward(self, features: list[Tensor]) -> Tensor:
        x = features[-1]
        for up, convs, skip in zip(self.ups, self.levels, reversed(features[:-1]), strict=True):
            x = convs(torch.cat([skip, up(x)], dim=1))
        return x


def _double_conv(in_channels: int, out_channels: int, norm: str) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (in_channels, out_channels):
        layers.append(nn.Conv2d(channels, out_channels, kernel_size=3, padding=1, bias=False))
        layers.append(create_norm(norm, out_channels, option="unet: norm"))
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)
