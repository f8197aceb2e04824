"""From pictures of any size to answers, as one module that a format can take: all that `predict` does but reading."""

import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from errors import LoupeError
from export.resampling import Resample
from inference.roi import Region
from inference.roi_window import roi_window
from inference.tiles import Tiled
from lightning_modules import ClassificationModule, CropModule, LoupeModule, SegmentationModule
from lightning_modules.calibration import decide
from lightning_modules.cropping import corners_of
from lightning_modules.links import Link

__all__ = ["Program", "create_program"]


class Found(NamedTuple):
    """What the cropper in front found: the windows (B, 4) int64, its boxes (B, 4) in pixels, its confidence (B,)."""

    window: Tensor
    box: Tensor
    confidence: Tensor


class Finder(nn.Module):
    """A `Region` in tensor operations: pictures (B, C, H, W) -> windows.

    Args:
        network: The cropper's.
        resample: By the cropper's input contract.
        temperature: Of its confidence.
        threshold: As in `Region`.
        margin: As in `Region`.
    """

    def __init__(
        self, network: nn.Module, resample: Resample, *, temperature: float, threshold: float, margin: float
    ) -> None:
        super().__init__()
        self.network = network
        self.resample = resample
        self.temperature, self.threshold, self.margin = temperature, threshold, margin

    def forward(self, image: Tensor) -> Found:
        """The windows, and what they come from."""
        shown, way = self.resample(image)
        link = Link("box")
        probs = link.probs(link.cooled(self.network(shown), self.temperature))
        box, confidence = way.boxes_back(corners_of(probs)), probs[:, 4]
        size = way.limit[0].flip(1).to(torch.int64)
        window = roi_window(box, confidence, size, threshold=self.threshold, margin=self.margin)
        return Found(window, box, confidence)


class Program(nn.Module):
    """``image`` (B, C, H, W), pictures of one size -> the answers of a task, a tuple in the order of ``names``.

    uint8, or with ``resample.floats`` float32 in 0..1. A classifier gives ``probs`` (B, K); a segmenter ``probs``
    (B, K, H, W) and ``mask`` (B, H, W) uint8, at the size of the pictures; a cropper ``box_xyxy_px`` (B, 4) in pixels
    of the pictures, cut at their borders, and ``confidence`` (B,). Behind a cropper also ``roi_xyxy_px`` (B, 4) and
    ``roi_confidence`` (B,). All float32 but the mask.
    """

    def __init__(
        self,
        response: nn.Module,
        resample: Resample,
        *,
        link: Link,
        thresholds: tuple[float, ...] | None,
        finder: Finder | None,
    ) -> None:
        super().__init__()
        self.response = response
        self.resample = resample
        self.link = link
        self.thresholds = thresholds
        self.finder = finder

    @property
    def names(self) -> tuple[str, ...]:
        """Of the outputs."""
        own = ("box_xyxy_px", "confidence") if self.link.kind == "box" else ("probs",)
        return (
            own
            + ("mask",) * self.resample.maps
            + ("roi_xyxy_px", "roi_confidence") * (self.finder is not None)
        )

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        found = None if self.finder is None else self.finder(image)
        shown, way = self.resample(image, None if found is None else found.window)
        probs = self.link.probs(self.response(shown))
        if self.link.kind == "box":
            answers: tuple[Tensor, ...] = (way.boxes_back(corners_of(probs)), probs[:, 4])
        elif self.resample.maps:
            as_seen = found is None and self.resample.picture_size == self.resample.size_hw
            probs = probs if as_seen else way.maps_back(probs)
            answers = (probs, self._mask(probs))
        else:
            answers = (probs,)
        return answers if found is None else (*answers, found.box, found.confidence)

    def _mask(self, probs: Tensor) -> Tensor:
        """As `SegmentationModule.prediction` decides."""
        if probs.shape[1] == 1:
            probs = torch.cat([1 - probs, probs], dim=1)
        scores = probs if self.thresholds is None else probs.log()
        return decide(scores, self.thresholds).to(torch.uint8)


def create_program(
    module: LoupeModule,
    response: nn.Module | None = None,
    region: Region | None = None,
    *,
    floats: bool = False,
    picture_size: tuple[int, int] | None = None,
) -> Program:
    """All that `predict` does behind the decoder, in float32 on the CPU; nothing of what is given is changed.

    Args:
        module: Built, with its weights.
        response: What answers in place of its network, as `inference.create_response` makes it; None: the network.
        region: The cropper in front.
        floats: Pictures are float32 in 0..1, as the reader makes them of files of more than 8 bits.
        picture_size: Height and width of all pictures; None: any, also another in each call.
    """
    if region is not None:
        _refuse_other_channels(module, region)
    if isinstance(response, Tiled):
        raise LoupeError(
            "inference.tiles cannot be exported: the number of tiles depends on the picture; export without it, "
            "inference.tiles.enabled=false, and cut the tiles in the program that uses the model"
        )
    finder = None
    if region is not None:
        finder = Finder(
            _plain_copy(region.module.network),
            Resample(region.module.input_contract, floats=floats, picture_size=picture_size),
            temperature=region.module.calibration.temperature,
            threshold=region.threshold,
            margin=region.margin,
        )
    match module:
        case ClassificationModule() | CropModule():
            maps = False
        case SegmentationModule():
            maps = True
        case _:
            raise LoupeError(f"{type(module).__name__} is no task that can be exported")
    program = Program(
        _plain_copy(module.network if response is None else response),
        Resample(module.input_contract, floats=floats, picture_size=picture_size, maps=maps),
        link=module.link,
        thresholds=module.calibration.thresholds,
        finder=finder,
    )
    return program.eval().requires_grad_(False)


def _plain_copy(network: nn.Module) -> nn.Module:
    """Float32, on the CPU, in evaluation mode, not by torch.compile, weights in the order that every format has."""
    copied = copy.deepcopy(network).to(device="cpu", dtype=torch.float32).eval()
    copied.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
    for part in copied.modules():
        part._compiled_call_impl = None  # pyright: ignore[reportPrivateUsage]
    return copied


def _refuse_other_channels(module: LoupeModule, region: Region) -> None:
    for key in ("in_channels", "value_range"):
        ours, theirs = (_plain(one.input_contract.get(key)) for one in (module, region.module))
        if ours != theirs:
            raise LoupeError(
                f"the cropper in front reads pictures with data.read.{key} {theirs}, and the model with {ours}; one "
                f"exported file takes one kind of picture"
            )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, list | tuple) else value
