"""``create_model``: every network by name. A family is one file with ``NAMES`` and a function that builds them."""

from collections.abc import Callable, Mapping
from typing import Any

from errors import LoupeError, unknown
from models import segmentation
from models.backbone import BackboneModel

__all__ = ["create_model", "model_names"]

FAMILIES: tuple[tuple[tuple[str, ...], Callable[..., BackboneModel]], ...] = (
    (segmentation.NAMES, segmentation.create_segmenter),
)


def model_names() -> list[str]:
    """Every name that ``create_model`` knows."""
    return [name for names, _ in FAMILIES for name in names]


def create_model(
    name: str = "unet",
    *,
    num_classes: int,
    in_channels: int = 3,
    encoder: str | None = None,
    weights: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> BackboneModel:
    """The network ``name``, from an image batch to logits.

    Image batches are (B, C, H, W), uint8 or float in 0..1, of any height and width; normalisation and padding
    happen inside. Segmenters give logits (B, num_classes, H, W).

    - ``name``: ``seg_unet``, ``seg_resnet50_unet``; ``unet`` (the standard U-Net, or SMP's when an encoder is
      named); any other architecture of SMP: ``deeplabv3plus fpn segformer upernet unetplusplus manet linknet
      pan pspnet dpt``.
    - ``encoder``: an encoder of SMP, or any backbone of timm; null is the architecture's own default.
    - ``weights``: null (random), ``imagenet`` or ``pretrained`` (from the hub), or a FILE (.safetensors .pth
      .ckpt) for the encoder or for the whole network.
    - ``options``: further arguments of the architecture, such as ``base_filters`` of the standard U-Net.

    Unknown names, options that the architecture lacks and weights that do not fit raise LoupeError.

    >>> import torch
    >>> create_model("seg_unet", num_classes=2, options={"base_filters": 4})(torch.zeros(2, 3, 5, 7)).shape
    torch.Size([2, 2, 5, 7])
    """
    if num_classes < 1 or in_channels < 1:
        raise LoupeError(f"num_classes and in_channels are at least 1, got {num_classes} and {in_channels}")
    for names, create in FAMILIES:
        if name in names:
            return create(
                name,
                num_classes=num_classes,
                in_channels=in_channels,
                encoder=encoder,
                weights=weights,
                options=options,
            )
    raise unknown("model", name, model_names())
