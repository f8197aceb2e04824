"""Classifiers: a backbone of timm, pooled, and one linear layer."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from errors import LoupeError
from models.backbone import BackboneModel, unused_parameters
from models.input import InputNormalization, MeanStd
from models.timm_backbone import backbone_mean_std, backbone_of, create_backbone, native_size

__all__ = ["NAMES", "Classifier", "create_classifier"]

PRESETS = {
    "cls_mobilenetv3": "mobilenetv3_small_100",
    "cls_efficientnetb0": "efficientnet_b0",
    "cls_resnet50v2": "resnetv2_50",
}
"""Config names: the backbone."""

NAMES: tuple[str, ...] = (*PRESETS, "classifier")


class Classifier(BackboneModel):
    """Image batch to logits: normalises, runs the backbone with its pooling, and one linear layer.

    ``image`` (B, C, H, W) uint8 or float in 0..1 -> logits (B, K). The head starts at weights of 0.02 and biases of 0,
    so the first loss is near log K whatever the features' scale.
    """

    def __init__(
        self, network: nn.Module, *, features: int, num_classes: int, mean_std: MeanStd, in_channels: int = 3
    ) -> None:
        super().__init__()
        self.normalize = InputNormalization(mean_std, in_channels=in_channels)
        self.network = network
        self.head = nn.Linear(features, num_classes)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    @property
    def backbone(self) -> nn.Module:
        """Everything but the normalisation and the linear layer."""
        return self.network

    def forward(self, image: Tensor) -> Tensor:
        """Image batch -> logits."""
        return self.head(self.network(self.normalize(image)))


def create_classifier(
    name: str,
    *,
    num_classes: int,
    in_channels: int = 3,
    encoder: str | None = None,
    weights: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Classifier:
    """The classifier of this name; see ``models.create_model``."""
    backbone = backbone_of(name, PRESETS, encoder)
    network, shape = create_backbone(
        backbone, in_channels=in_channels, weights=weights, options=options or {}, pooled=True
    )
    if len(shape) != 1:
        raise LoupeError(f"the backbone {backbone} gives {shape} for a picture and no vector; use another")
    mean_std = backbone_mean_std(backbone)
    model = Classifier(
        network, features=shape[0], num_classes=num_classes, mean_std=mean_std, in_channels=in_channels
    )
    model.retire(unused_parameters(model, (2, in_channels, *native_size(network))))
    return model
