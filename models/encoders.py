"""Encoders by name: SMP's own, and any timm backbone, with or without SMP's prefix ``tu-``."""

import warnings
from typing import Any

from errors import LoupeError, nearest, unknown
from models.input import CENTRED, IMAGENET, MeanStd

__all__ = ["encoder_mean_std", "hub_tag", "resolve_encoder", "size_options", "warn_of_differences"]

# SMP keeps these on the hub only, which need not be reachable. ImageNet's statistics are those of all others.
_DPN: MeanStd = ((124 / 255, 117 / 255, 104 / 255), (1 / (0.0167 * 255),) * 3)
_MEAN_STD: dict[str, MeanStd] = {
    "timm-tf_efficientnet_lite": CENTRED,
    "inception": CENTRED,
    "xception": CENTRED,
    "dpn": _DPN,
}


def resolve_encoder(name: str) -> str:
    """SMP's name of an encoder: its own first, then timm's with ``tu-`` in front; unknown ones raise LoupeError.

    >>> resolve_encoder("resnet50"), resolve_encoder("convnext_tiny")
    ('resnet50', 'tu-convnext_tiny')
    """
    import timm  # here and below: it takes a second to import, and --help asks nothing of it

    own = _smp_encoders()
    if name in own:
        return name
    bare = name.removeprefix("tu-").removeprefix("timm-")
    # SMP 0.6 maps these older names itself: timm-mobilenetv3_large_100 is timm's tf_mobilenetv3_large_100.
    if name.startswith("timm-mobilenetv3"):
        bare = f"tf_{bare}"
    if timm.is_model(bare):
        return f"tu-{bare}"
    near = nearest(name, [*own, *timm.list_models(), *(f"tu-{model}" for model in timm.list_models())])
    hint = f" (did you mean '{near}'?)" if near else ""
    raise LoupeError(
        f"unknown encoder '{name}'{hint}; valid: an encoder of SMP (resnet34, mit_b0, ...) or of timm "
        f"(convnext_tiny, tf_efficientnet_lite0, ...; timm.list_models() has them all)"
    )


def _smp_encoders() -> dict[str, dict[str, Any]]:
    import segmentation_models_pytorch as smp

    return smp.encoders.encoders


def encoder_mean_std(encoder: str) -> MeanStd:
    """Mean and standard deviation that the encoder's pretrained weights expect, with pixels in 0..1.

    They depend on the encoder's name alone, so a network trained from scratch, or built again for a
    checkpoint, has the same.
    """
    import timm

    if encoder.startswith("tu-"):
        config = timm.get_pretrained_cfg(encoder.removeprefix("tu-"))
        return (tuple(config.mean), tuple(config.std)) if config else IMAGENET
    return next((values for start, values in _MEAN_STD.items() if encoder.startswith(start)), IMAGENET)


def hub_tag(encoder: str, weights: str) -> str | bool:
    """What SMP wants as ``encoder_weights`` for ``imagenet``, ``pretrained`` or another tag of the encoder."""
    import timm

    if encoder.startswith("tu-"):
        if weights not in ("imagenet", "pretrained"):
            raise unknown("weights", weights, ["imagenet", "pretrained", "a FILE", "null"])
        if not timm.is_model_pretrained(encoder.removeprefix("tu-")):
            raise LoupeError(
                f"weights: timm has none for the encoder {encoder}, got '{weights}'; use weights: null"
            )
        return True
    # Adversarial weights expect other pixel statistics than the rest of their encoder; timm has them by name.
    tags = [str(tag) for tag in _smp_encoders()[encoder]["pretrained_settings"] if tag != "advprop"]
    if weights in tags:
        return weights
    if tags and weights in ("imagenet", "pretrained"):
        return tags[0]
    raise unknown(f"weights of the encoder {encoder}:", weights, [*tags, "a FILE", "null"])


def size_options(architecture: str, encoder: str, options: dict[str, Any]) -> dict[str, Any]:
    """What timm's transformers need to take any picture size, unless the user fixes one (``img_size``)."""
    if not encoder.startswith("tu-") or "img_size" in options:
        return {}
    if architecture == "dpt":
        return {"dynamic_img_size": True} if "dynamic_img_size" not in options else {}
    if encoder.startswith("tu-swin"):
        return {"strict_img_size": False} if "strict_img_size" not in options else {}
    return {}


def warn_of_differences(encoder: str) -> None:
    """Warn where SMP's encoder takes pretrained weights and is not the network that they were trained in.

    SMP 0.6 builds EfficientNet-Lite with symmetric padding and a batch-norm epsilon of 1e-5; TensorFlow's
    weights are for padding at the right and the bottom and 1e-3. All tensors fit, and the features are others:
    up to 68 apart, where the largest is 65, in the second block of Lite0. This can go when SMP drops its
    ``timm-`` encoders, which it calls deprecated.
    """
    if encoder.startswith("timm-tf_efficientnet_lite"):
        other = encoder.removeprefix("timm-")
        warnings.warn(
            f"encoder: {encoder} pads other than its pretrained weights were trained with (SMP's own version); "
            f"encoder: {other} is the same network as they expect",
            stacklevel=2,
        )
