"""Segmentation networks by name: the standard U-Net, and every architecture of SMP with any encoder."""

import inspect
import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

from torch import Tensor, nn

from errors import LoupeError, unknown
from models.backbone import BackboneModel, unused_parameters
from models.encoders import encoder_mean_std, hub_tag, resolve_encoder, size_options, warn_of_differences
from models.input import CENTRED, InputNormalization, MeanStd, pad_to_stride
from models.unet import UNet
from models.upstream_errors import upstream_errors
from models.weights import from_hub, hub_errors

__all__ = ["Segmenter", "create_segmenter", "names"]

PRESETS: dict[str, tuple[str, str | None]] = {
    "seg_unet": ("unet", None),
    "seg_resnet50_unet": ("unet", "resnet50"),
}
"""Config names: architecture and encoder."""

# PAN's pyramid halves the last feature map three times, so that needs 8 x 8 positions.
_SMALLEST_FEATURES = {"pan": 8}
# DPT halves the grid of tokens once more, and joins the scales without cutting.
_STRIDE_FACTOR = {"dpt": 2}

# Ours to set, or (activation, aux_params) they would turn the output into something else than logits.
_RESERVED = {
    "self",
    "encoder_name",
    "encoder_weights",
    "in_channels",
    "classes",
    "activation",
    "aux_params",
    "kwargs",
}


def names() -> tuple[str, ...]:
    """Those of Loupe, and every architecture of SMP."""
    return (*PRESETS, *_architectures())


def _architectures() -> Mapping[str, type[nn.Module]]:
    import segmentation_models_pytorch as smp  # here: it takes a second with timm, and --help asks nothing of it

    return smp.MODEL_ARCHITECTURES_MAPPING


class Segmenter(BackboneModel):
    """Any picture size to logits of the same size: normalises, pads to the stride, runs the network, cuts back.

    ``image`` (B, C, H, W) uint8 or float in 0..1, H and W from 1 -> logits (B, K, H, W).
    """

    def __init__(
        self, network: nn.Module, *, stride: int, mean_std: MeanStd, in_channels: int = 3, smallest: int = 1
    ) -> None:
        super().__init__()
        self.normalize = InputNormalization(mean_std, in_channels=in_channels)
        self.network = network
        self.stride = stride
        self.smallest = max(stride, smallest)

    @property
    def backbone(self) -> nn.Module:
        """SMP's encoder, or the contracting path of the standard U-Net."""
        encoder = self.network.encoder
        assert isinstance(encoder, nn.Module)
        return encoder

    def forward(self, image: Tensor) -> Tensor:
        """Image batch -> logits of the same height and width."""
        height, width = image.shape[-2:]
        logits = self.network(pad_to_stride(self.normalize(image), self.stride, self.smallest))
        return logits[..., :height, :width]


def create_segmenter(
    name: str,
    *,
    num_classes: int,
    in_channels: int = 3,
    encoder: str | None = None,
    weights: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Segmenter:
    """The segmentation network of this name; see ``models.create_model``."""
    architecture, fixed = PRESETS.get(name, (name, None))
    if fixed and encoder not in (None, fixed):
        raise LoupeError(f"{name} has the encoder {fixed}, got '{encoder}'; use architecture: {architecture}")
    encoder = encoder or fixed
    if architecture == "unet" and encoder is None:
        if from_hub(weights):
            raise LoupeError(
                f"weights: '{weights}' exists for encoders only, not for the standard U-Net; "
                f"use weights: null, or name an encoder, such as encoder: resnet50"
            )
        model = _standard_unet(num_classes, in_channels, dict(options or {}))
    else:
        model = _smp_model(architecture, encoder, num_classes, in_channels, weights, dict(options or {}))
    return model


def _standard_unet(num_classes: int, in_channels: int, options: dict[str, Any]) -> Segmenter:
    _check_options("unet", options, set(inspect.signature(UNet).parameters) - {"num_classes", "in_channels"})
    network = UNet(num_classes=num_classes, in_channels=in_channels, **options)
    # No data set's statistics would be right for every picture; -1..1 presumes nothing.
    return Segmenter(network, stride=network.stride, mean_std=CENTRED, in_channels=in_channels)


def _smp_model(
    architecture: str,
    encoder: str | None,
    num_classes: int,
    in_channels: int,
    weights: str | None,
    options: dict[str, Any],
) -> Segmenter:
    build = _architectures()[architecture]
    parameters = inspect.signature(build).parameters
    encoder = resolve_encoder(encoder or str(parameters["encoder_name"].default))
    valid = set(parameters) - _RESERVED
    # timm's encoders take further options; for its own, SMP drops what it does not know without a word.
    _check_options(
        architecture, options, valid | set(options) - _RESERVED if encoder.startswith("tu-") else valid
    )
    tag = hub_tag(encoder, weights) if weights is not None and from_hub(weights) else None
    settings = {**size_options(architecture, encoder, options), **options}
    if weights is not None:
        warn_of_differences(encoder)
    with (
        warnings.catch_warnings(),
        upstream_errors(f"{architecture} with the encoder {encoder} and {settings or 'no options'}"),
    ):
        # SMP 0.6 warns of encoders with its older prefix; warn_of_differences says what matters.
        warnings.filterwarnings("ignore", "`timm-` encoders are deprecated", DeprecationWarning)
        with hub_errors(encoder, str(weights)) if tag else nullcontext():
            network: Any = build(
                encoder_name=encoder,
                encoder_weights=tag,
                in_channels=in_channels,
                classes=num_classes,
                **settings,
            )
        stride = int(network.encoder.output_stride) * _STRIDE_FACTOR.get(architecture, 1)
        model = Segmenter(
            network,
            stride=stride,
            smallest=stride * _SMALLEST_FEATURES.get(architecture, 1),
            mean_std=encoder_mean_std(encoder),
            in_channels=in_channels,
        )
        # Also the first forward pass: timm refuses picture sizes that its encoder cannot take by an assertion.
        model.retire(unused_parameters(model, (2, in_channels, model.smallest, model.smallest)))
    return model


def _check_options(architecture: str, options: Mapping[str, Any], valid: set[str]) -> None:
    for option in options:
        if option not in valid:
            raise unknown(f"option of {architecture}:", option, sorted(valid))
