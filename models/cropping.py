"""Croppers: where is the one object, how large is it, and is there one at all."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from errors import LoupeError
from models.backbone import BackboneModel, unused_parameters
from models.input import InputNormalization, MeanStd
from models.norm import create_norm
from models.timm_backbone import backbone_mean_std, backbone_of, create_backbone, native_size

__all__ = ["NAMES", "BoxHead", "Cropper", "create_cropper"]

PRESETS = {
    "crop_mobilenetv3": "mobilenetv3_small_100",
    "crop_efficientnetb0": "efficientnet_b0",
    "crop_resnet50v2": "resnetv2_50",
}
"""Config names: the backbone."""

NAMES: tuple[str, ...] = (*PRESETS, "cropper")


class BoxHead(nn.Module):
    """Feature map (B, C, h, w) -> (B, 5): centre x, centre y, width, height in 0..1, and a confidence logit.

    Every position of the map proposes a centre near itself and a size, and votes for its own proposal; the answer is
    the mean of the proposals, weighed by the softmax of the votes. So a box can be found anywhere after it was seen
    somewhere, and the head has no weights that belong to one picture size. The mean is taken before the sigmoid that
    keeps centres inside the picture and sizes in ``min_size``..1.
    """

    def __init__(
        self, channels: int, *, hidden: int = 128, min_size: float = 0.02, norm: str = "batch"
    ) -> None:
        super().__init__()
        self.min_size = min_size
        self.mix = nn.Sequential(
            nn.Conv2d(channels, hidden, kernel_size=1, bias=False),
            create_norm(norm, hidden, option="head_norm"),
            nn.SiLU(inplace=True),
            nn.Conv2d(hidden, hidden, kernel_size=3, padding=1, bias=False),
            create_norm(norm, hidden, option="head_norm"),
            nn.SiLU(inplace=True),
        )
        self.proposal = nn.Conv2d(hidden, 4, kernel_size=1)
        self.vote = nn.Conv2d(hidden, 1, kernel_size=1)
        self.confidence = nn.Linear(hidden, 1)
        for layer in (self.proposal, self.vote, self.confidence):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, 5)."""
        x = self.mix(features)
        # Coordinates need more than the 8 bits of bfloat16, and keep what trainer.precision=64-true gives.
        proposal, vote = _wide(self.proposal(x)).flatten(2), _wide(self.vote(x)).flatten(2)
        share = vote.softmax(-1)
        centre = proposal[:, :2] + _centres(x).to(proposal.dtype)
        box = (torch.cat([centre, proposal[:, 2:]], dim=1) * share).sum(-1)
        centre, size = box.sigmoid().split(2, dim=1)
        seen = (x.flatten(2) * share.to(x.dtype)).sum(-1)
        size = self.min_size + (1 - self.min_size) * size
        return torch.cat([centre, size, _wide(self.confidence(seen))], dim=1)


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _centres(x: Tensor) -> Tensor:
    """Logits of the middle of each position of the map, x then y in 0..1: (2, h * w)."""
    height, width = x.shape[-2:]
    y = (torch.arange(height, device=x.device, dtype=torch.float32) + 0.5) / height
    across = (torch.arange(width, device=x.device, dtype=torch.float32) + 0.5) / width
    grid = torch.stack([across.expand(height, -1), y[:, None].expand(-1, width)])
    return torch.logit(grid.flatten(1))


class Cropper(BackboneModel):
    """Image batch to one box and a confidence a picture.

    ``image`` (B, C, H, W) uint8 or float in 0..1 -> (B, 5) float32: centre x, centre y, width and height in 0..1 of the
    picture (width and height at least ``min_size``), and the logit of there being an object.
    """

    def __init__(
        self,
        network: nn.Module,
        head: BoxHead,
        *,
        mean_std: MeanStd,
        in_channels: int = 3,
        channels_last: bool,
    ) -> None:
        super().__init__()
        self.normalize = InputNormalization(mean_std, in_channels=in_channels)
        self.network = network
        self.head = head
        self.channels_last = channels_last

    @property
    def backbone(self) -> nn.Module:
        """Everything but the normalisation and the head."""
        return self.network

    def forward(self, image: Tensor) -> Tensor:
        """Image batch -> (B, 5)."""
        network: Any = self.network
        features = network.forward_features(self.normalize(image))
        return self.head(features.movedim(-1, 1) if self.channels_last else features)


def create_cropper(
    name: str,
    *,
    num_classes: int = 1,
    in_channels: int = 3,
    encoder: str | None = None,
    weights: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Cropper:
    """Of this name; see ``models.create_model``. ``options`` may also hold ``min_size``, ``hidden``, ``head_norm``."""
    if num_classes != 1:
        raise LoupeError(f"{name}: a cropper finds one kind of object, got num_classes {num_classes}")
    backbone = backbone_of(name, PRESETS, encoder)
    settings = dict(options or {})
    min_size, hidden = settings.pop("min_size", 0.02), settings.pop("hidden", 128)
    norm = settings.pop("head_norm", "batch")
    if isinstance(min_size, bool) or not isinstance(min_size, (int, float)) or not 0 < min_size < 1:
        raise LoupeError(
            f"min_size is {min_size!r}; it is a share of the picture's side between 0 and 1, such as 0.02"
        )
    if isinstance(hidden, bool) or not isinstance(hidden, int) or hidden < 1:
        raise LoupeError(f"hidden is {hidden!r}; it is a number of channels")
    network, shape = create_backbone(
        backbone, in_channels=in_channels, weights=weights, options=settings, pooled=False
    )
    channels = int(getattr(network, "num_features", 0))
    if len(shape) != 3 or channels not in (shape[0], shape[2]):
        raise LoupeError(
            f"the backbone {backbone} gives {shape} for a picture and no map of features, which a cropper needs; use a "
            f"convolutional one, such as resnetv2_50"
        )
    model = Cropper(
        network,
        BoxHead(channels, hidden=hidden, min_size=min_size, norm=norm),
        mean_std=backbone_mean_std(backbone),
        in_channels=in_channels,
        channels_last=shape[0] != channels,
    )
    _drop_unused(model, in_channels)
    return model


def _drop_unused(model: Cropper, in_channels: int) -> None:
    """Take out the layers that only the classifier behind the feature map would use, such as MobileNetV3's last one."""
    unused = unused_parameters(model, (2, in_channels, *native_size(model.network)))
    for name, layer in model.network.named_children():
        own = {f"network.{name}.{parameter}" for parameter, _ in layer.named_parameters()}
        if own and own <= unused:
            setattr(model.network, name, nn.Identity())
    model.retire(unused & {name for name, _ in model.named_parameters()})
