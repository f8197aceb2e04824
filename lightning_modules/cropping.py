"""Cropping: the box of the one object in a picture, and whether there is one."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from lightning_modules.base import Batch, LoupeModule
from lightning_modules.links import Link
from losses import BOX_LOSSES, Step, create_box_loss
from metrics import BoxScores
from models import backbone_interpolation, create_model

__all__ = ["CropModule"]


class CropModule(LoupeModule):
    """Trains a cropper on ``image``, ``box`` and ``has_box``; pictures without an object train the confidence only.

    Args:
        backbone: Any convolutional network of timm by name; pictures are normalised and resized as its weights expect.
        save_crops: ``predict`` also cuts the boxes out of the pictures, those with a confidence of at least 0.5,
            or the threshold that `calibrate` chose.
        weights: null, ``imagenet`` (from the hub), or a FILE for the backbone or for the whole network.
        options: ``min_size`` (0.02, smallest side of a box as a share of the input's), ``hidden`` (128, channels of the
            head), and more arguments of timm's network.
        freeze_backbone: Keep the backbone's weights and norms as they are.
        unfreeze_epoch: Train the backbone too from this epoch on (the first is 0).
        backbone_learning_rate_factor: Learning rate of the backbone as a factor of `training.learning_rate`.
        training: Set by the `training:` section.
    """

    losses: ClassVar[Mapping[str, Callable[..., nn.Module]]] = BOX_LOSSES
    create_loss: ClassVar[Callable[..., nn.Module]] = staticmethod(create_box_loss)
    learns: ClassVar[tuple[str, ...]] = ("box", "has_box")
    terms: ClassVar[int] = 2
    compares: ClassVar[str] = "a box for each picture"
    score_names: ClassVar[tuple[str, ...]] = ("box_iou", "box_iou_50", "box_iou_75", "confidence_auroc")

    # The command line reads the other arguments from the base's signature.
    def __init__(
        self, backbone: str = "mobilenetv3_small_100", *, save_crops: bool = False, **others: Any
    ) -> None:
        super().__init__(**others)
        self.backbone = backbone
        self.save_crops = save_crops

    @property
    def input_interpolation(self) -> Literal["bilinear", "bicubic"]:
        """That of the backbone's pretrained weights."""
        return backbone_interpolation(self.backbone)

    @property
    def link(self) -> Link:
        """A box and its confidence."""
        return Link("box")

    def create_network(self, class_names: list[str], in_channels: int, *, pretrained: bool) -> nn.Module:
        """The cropper: image batch -> centre, size and confidence logit, (B, 5)."""
        return create_model(
            "cropper",
            num_classes=len(class_names),
            in_channels=in_channels,
            encoder=self.backbone,
            weights=self.weights if pretrained else None,
            options=self.options,
        )

    def create_scores(self, class_names: list[str]) -> BoxScores:
        """Box IoU and the AUROC of the confidence."""
        return BoxScores()

    def loss_terms(self, outputs: Tensor, batch: Batch, step: Step | None = None) -> tuple[Tensor, Tensor]:
        """The box loss in 0..1 of the network's input, a mean over the objects; the confidence's over all pictures."""
        criterion: Any = self.built_loss
        values = criterion.terms(
            corners_of(outputs),
            batch["box"],
            has_box=batch["has_box"],
            confidence=outputs[:, 4],
            sample_weight=batch["valid"],
            step=step,
        )
        return values, torch.stack([(batch["has_box"] & batch["valid"]).sum(), batch["valid"].sum()])

    def loss_step(self, outputs: Tensor, batches: Sequence[Batch]) -> Step:
        """From ``has_box`` and ``valid``."""
        criterion: Any = self.built_loss
        return criterion.step([(batch["has_box"], batch["valid"]) for batch in batches])

    def update_scores(self, scores: BoxScores, outputs: Tensor, batch: Batch) -> None:
        """Compare boxes in pixels of the original pictures: what is predicted is cut at the picture's border."""
        size_hw = batch["image"].shape[-2:]
        predicted = _within(
            to_original_box(corners_of(outputs), size_hw, batch["to_original"]), batch["size_hw_px"]
        )
        truth = to_original_box(batch["box"], size_hw, batch["to_original"])
        scores.update(predicted, outputs[:, 4], truth, batch["has_box"], batch["valid"])

    def to_show(self, scores: BoxScores, outputs: Tensor, batch: Batch) -> dict[str, Tensor]:
        """``predicted_box`` (B, 4) in 0..1 of the network's input, ``confidence`` (B,) in 0..1, ``iou`` (B,);
        ``badness``: 1 - IoU, or the confidence where there is no object; ``uncertainty``: 1 - |2 confidence - 1|.
        """
        iou, confidence = scores.iou[-1], outputs[:, 4].detach().float().sigmoid()
        return {
            "predicted_box": corners_of(outputs.detach()),
            "confidence": confidence,
            "iou": iou,
            "badness": torch.where(batch["has_box"], 1 - iou, confidence),
            "uncertainty": 1 - (2 * confidence - 1).abs(),
        }

    def prediction(self, outputs: Tensor, batch: Batch, position: int) -> dict[str, Any]:
        """The row: the box in original pixels, and the confidence; the crop where it is asked for and confident."""
        one = slice(position, position + 1)
        box = to_original_box(corners_of(outputs[one]), batch["image"].shape[-2:], batch["to_original"][one])
        corners = [round(value, 2) for value in _within(box, batch["size_hw_px"][one])[0].tolist()]
        confidence = float(outputs[position, 4].float().sigmoid())
        row = {
            **dict(zip(("x1", "y1", "x2", "y2"), corners, strict=True)),
            "confidence": round(confidence, 6),
        }
        return (
            {"row": row, "crop": corners if confidence >= self.calibration.threshold() else None}
            if self.save_crops
            else {"row": row}
        )


def to_original_box(box: Tensor, size_hw: Any, to_original: Tensor) -> Tensor:
    """Boxes (B, 4) in 0..1 of the network's input -> pixels of the upright originals, float32.

    Args:
        box: x1, y1, x2, y2.
        size_hw: Height and width of the network's input, pixels.
        to_original: (B, 2, 3), network (x, y) -> original (x, y); scales and shifts only.

    >>> half = torch.tensor([[[2.0, 0.0, 0.0], [0.0, 2.0, -50.0]]])
    >>> to_original_box(torch.tensor([[0.5, 0.5, 1.0, 0.75]]), (100, 100), half).tolist()
    [[100.0, 50.0, 200.0, 100.0]]
    """
    height, width = size_hw
    x, y = box.float().view(-1, 2, 2).unbind(2)
    corners = torch.stack(
        [x * width, y * height], dim=2
    )  # numbers, not a tensor of them: that would wait for the device
    scale = to_original.diagonal(dim1=1, dim2=2)
    return (corners * scale[:, None] + to_original[:, None, :, 2]).flatten(1)


def corners_of(outputs: Tensor) -> Tensor:
    """(B, 5) centre, size and confidence -> x1, y1, x2, y2 (B, 4), float32, or float64 under 64-true."""
    wide = outputs if outputs.dtype == torch.float64 else outputs.float()
    centre, half = wide[:, :2], wide[:, 2:4] / 2
    return torch.cat([centre - half, centre + half], dim=1)


def _within(box_xyxy_px: Tensor, size_hw_px: Tensor) -> Tensor:
    """Boxes (B, 4) cut at the borders of their pictures, whose heights and widths are (B, 2)."""
    limit = size_hw_px.flip(1).repeat(1, 2).to(box_xyxy_px)
    return torch.minimum(box_xyxy_px.clamp(min=0), limit)
