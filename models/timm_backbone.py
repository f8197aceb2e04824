"""Backbones of timm by name: built, filled, and asked how they want their pictures."""

import inspect
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, Literal

import torch
from torch import nn

from errors import LoupeError, nearest
from models.input import IMAGENET, MeanStd
from models.upstream_errors import upstream_errors
from models.weights import from_hub, hub_errors

__all__ = [
    "backbone_interpolation",
    "backbone_mean_std",
    "backbone_of",
    "create_backbone",
    "native_size",
    "resolve_backbone",
]

# Ours to set.
_RESERVED = {
    "num_classes",
    "in_chans",
    "pretrained",
    "features_only",
    "global_pool",
    "checkpoint_path",
    "model_name",
}


def resolve_backbone(name: str) -> str:
    """The name, if timm has such a network; unknown ones raise LoupeError with the nearest.

    >>> resolve_backbone("resnetv2_50")
    'resnetv2_50'
    """
    import timm  # here and below: it takes a second to import, and --help asks nothing of it

    if timm.is_model(name):
        return name
    near = nearest(name, timm.list_models())
    hint = f" (did you mean '{near}'?)" if near else ""
    raise LoupeError(
        f"unknown backbone '{name}'{hint}; valid: any network of timm, such as mobilenetv3_small_100, "
        f"efficientnet_b0, resnetv2_50, convnext_tiny (timm.list_models() has them all)"
    )


def backbone_mean_std(name: str) -> MeanStd:
    """Mean and standard deviation that the backbone's pretrained weights expect, with pixels in 0..1.

    They depend on the name alone, so a network trained from scratch, or built again for a checkpoint, has the same.

    >>> backbone_mean_std("resnetv2_50")
    ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    """
    import timm

    config = timm.get_pretrained_cfg(name)
    return (tuple(config.mean), tuple(config.std)) if config else IMAGENET


def backbone_interpolation(name: str) -> Literal["bilinear", "bicubic"]:
    """How pictures were resized for the backbone's pretrained weights; bilinear where timm does not say.

    >>> backbone_interpolation("resnetv2_50"), backbone_interpolation("lcnet_035")
    ('bicubic', 'bilinear')
    """
    import timm

    config = timm.get_pretrained_cfg(resolve_backbone(name))
    return "bicubic" if config and config.interpolation == "bicubic" else "bilinear"


def create_backbone(
    name: str, *, in_channels: int, weights: str | None, options: Mapping[str, Any], pooled: bool
) -> tuple[nn.Module, tuple[int, ...]]:
    """The network without a classifier, and the shape of what it gives for one picture.

    Args:
        name: A network of timm.
        in_channels: Of the pictures.
        weights: null, ``imagenet`` or ``pretrained`` from the hub. A FILE is left to ``load_weights``.
        options: Further arguments of the network, such as ``drop_path_rate``.
        pooled: One vector a picture, (C,); otherwise what ``forward_features`` gives: (C, H, W), or other shapes for
            networks that are not convolutional.
    """
    import timm

    resolve_backbone(name)
    for option in options:
        if option in _RESERVED:
            raise LoupeError(f"options of {name}: '{option}' is set by Loupe; leave it out")
    from_the_hub = from_hub(weights)
    if from_the_hub and weights not in ("imagenet", "pretrained"):
        raise LoupeError(
            f"weights: '{weights}' is neither imagenet, a FILE nor null; other weights of timm go by the backbone's "
            f"name (backbone: {name}.TAG)"
        )
    if from_the_hub and not timm.is_model_pretrained(name):
        raise LoupeError(
            f"weights: timm has none for the backbone {name}, got '{weights}'; use weights: null"
        )
    with upstream_errors(f"backbone {name} with {dict(options) or 'no options'}"):
        with torch.device("meta"):
            draft: Any = timm.create_model(name, num_classes=0, in_chans=in_channels, **options)
        settings = {**_any_size(draft, options), **options}
        with torch.device("meta"):
            draft = timm.create_model(name, num_classes=0, in_chans=in_channels, **settings).eval()
            image = torch.zeros(1, in_channels, *native_size(draft))
            shape = tuple((draft(image) if pooled else draft.forward_features(image)).shape[1:])
        with hub_errors(name, str(weights)) if from_the_hub else nullcontext():
            network: Any = timm.create_model(
                name, num_classes=0, in_chans=in_channels, pretrained=from_the_hub, **settings
            )
    return network, shape


def _any_size(network: nn.Module, options: Mapping[str, Any]) -> dict[str, Any]:
    """What timm's transformers need to take any picture size, unless the user fixes one (``img_size``)."""
    known = inspect.signature(type(network).__init__).parameters
    given = {"img_size", "strict_img_size", "dynamic_img_size"} & set(options)
    if given:
        return {}
    if "strict_img_size" in known:
        return {"strict_img_size": False}
    return {"dynamic_img_size": True} if "dynamic_img_size" in known else {}


def native_size(network: nn.Module) -> tuple[int, int]:
    """Height and width, pixels, of the pictures that timm's network was made for: any network takes these."""
    config: Any = getattr(network, "pretrained_cfg", None) or {}
    height, width = config.get("input_size", (3, 224, 224))[1:]
    return int(height), int(width)


def backbone_of(name: str, presets: Mapping[str, str], encoder: str | None) -> str:
    """The backbone that a preset names, or the one given; LoupeError where they differ or none is known."""
    fixed = presets.get(name)
    if fixed and encoder not in (None, fixed):
        raise LoupeError(
            f"{name} has the backbone {fixed}, got '{encoder}'; use '{name.split('_')[0]}' without it"
        )
    found = encoder or fixed
    if found is None:
        raise LoupeError(f"{name} needs a backbone; give encoder, any network of timm, such as resnetv2_50")
    return found
