"""``create_model``: every network by name. A family is one file with names and a function that builds them."""

from collections.abc import Callable, Mapping
from typing import Any

from errors import LoupeError, unknown
from models import classification, cropping, segmentation
from models.backbone import BackboneModel
from models.weights import from_hub, load_weights

__all__ = ["create_model", "model_names"]

# Segmenters last: SMP has to be imported for their names.
FAMILIES: tuple[tuple[Callable[[], tuple[str, ...]], Callable[..., BackboneModel]], ...] = (
    (lambda: classification.NAMES, classification.create_classifier),
    (lambda: cropping.NAMES, cropping.create_cropper),
    (segmentation.names, segmentation.create_segmenter),
)


def model_names() -> list[str]:
    """Every name that ``create_model`` knows."""
    return [name for names, _ in FAMILIES for name in names()]


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
    happen inside. Segmenters give logits (B, num_classes, H, W), classifiers logits (B, num_classes); croppers
    (num_classes 1) give (B, 5): centre x, centre y, width, height in 0..1, and a confidence logit.

    - ``name``: ``cls_mobilenetv3 cls_efficientnetb0 cls_resnet50v2``, or ``classifier`` with any backbone;
      ``crop_mobilenetv3 crop_efficientnetb0 crop_resnet50v2``, or ``cropper`` with any convolutional backbone;
      ``seg_unet``, ``seg_resnet50_unet``; ``unet`` (the standard U-Net, or SMP's when an encoder is named); any
      other architecture of SMP: ``deeplabv3plus fpn segformer upernet unetplusplus manet linknet pan pspnet dpt``.
    - ``encoder``: the backbone: any network of timm; for segmenters an encoder of SMP, too. Null is the name's own.
    - ``weights``: null (random), ``imagenet`` or ``pretrained`` (from the hub), or a FILE (.safetensors .pth
      .ckpt) for the encoder or for the whole network.
    - ``options``: further arguments of the architecture, such as ``base_filters`` of the standard U-Net or
      ``drop_path_rate`` of timm's networks; croppers also have ``min_size`` (0.02, a share of the picture's side)
      and ``hidden`` (128 channels).

    Unknown names, options that the architecture lacks and weights that do not fit raise LoupeError.

    >>> import torch
    >>> create_model("seg_unet", num_classes=2, options={"base_filters": 4})(torch.zeros(2, 3, 5, 7)).shape
    torch.Size([2, 2, 5, 7])
    """
    if num_classes < 1 or in_channels < 1:
        raise LoupeError(f"num_classes and in_channels are at least 1, got {num_classes} and {in_channels}")
    for names, create in FAMILIES:
        if name in names():
            model = create(
                name,
                num_classes=num_classes,
                in_channels=in_channels,
                encoder=encoder,
                weights=weights,
                options=options,
            )
            if weights is not None and not from_hub(weights):
                load_weights(model, weights)
            return model
    raise unknown("model", name, model_names())
