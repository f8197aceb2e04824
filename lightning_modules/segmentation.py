"""Semantic segmentation: one class for each pixel."""

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lightning_modules.base import Batch, LoupeModule
from lightning_modules.calibration import decide
from lightning_modules.links import Link
from lightning_modules.original_mask import original_mask, two_classes
from losses import Step, local_reduction
from metrics import SegmentationScores, class_iou
from models import create_model

__all__ = ["SegmentationModule"]


class SegmentationModule(LoupeModule):
    """Trains a segmenter on ``image`` and ``mask``; scores come from one confusion matrix over the whole data set.

    Args:
        architecture: ``unet`` (the standard U-Net) or any architecture of segmentation_models_pytorch by name.
        encoder: Any encoder of segmentation_models_pytorch or timm; null takes the standard U-Net.
        weights: null, ``imagenet`` (from the hub), or a FILE for the encoder or for the whole network.
        options: More arguments of the architecture, such as ``{base_filters: 32}``.
        freeze_backbone: Keep the encoder's weights and norms as they are.
        unfreeze_epoch: Train the encoder too from this epoch on (the first is 0).
        backbone_learning_rate_factor: Learning rate of the encoder as a factor of `training.learning_rate`.
        training: Set by the `training:` section.
    """

    learns: ClassVar[tuple[str, ...]] = ("mask",)
    compares: ClassVar[str] = "a class for each pixel"
    knows_void: ClassVar[bool] = True
    score_names: ClassVar[tuple[str, ...]] = ("iou", "boundary_iou", "dice", "accuracy")
    class_score_names: ClassVar[tuple[str, ...]] = ("iou",)

    # The command line reads the other arguments from the base's signature.
    def __init__(self, architecture: str = "unet", *, encoder: str | None = None, **others: Any) -> None:
        super().__init__(**others)
        self.architecture = architecture
        self.encoder = encoder
        #: Whether predictions also have the probability of each class for each pixel.
        self.gives_probs = False

    @property
    def link(self) -> Link:
        """A class for each pixel; with one channel a yes or no."""
        return Link("sigmoid" if len(self.class_names or []) == 1 else "softmax")

    def create_network(self, class_names: list[str], in_channels: int, *, pretrained: bool) -> nn.Module:
        """The segmenter: image batch -> logits (B, K, H, W)."""
        return create_model(
            self.architecture,
            num_classes=len(class_names),
            in_channels=in_channels,
            encoder=self.encoder,
            weights=self.weights if pretrained else None,
            options=self.options,
        )

    def create_scores(self, class_names: list[str]) -> SegmentationScores:
        """A confusion matrix over all pixels."""
        return SegmentationScores(len(class_names))

    def loss_terms(self, outputs: Tensor, batch: Batch, step: Step | None = None) -> tuple[Tensor, Tensor]:
        """The loss between logits (B, K, H, W) and ``mask``, a mean over the pictures.

        Where pictures come one at a time it is of each alone, whatever the number of processes.
        """
        with local_reduction() if "whole_mask" in batch else nullcontext():
            loss = self.built_loss(outputs, batch["mask"], sample_weight=batch["valid"], step=step)
        return loss, batch["valid"].sum()

    def loss_step(self, outputs: Tensor, batches: Sequence[Batch]) -> Step:
        """From ``mask`` and ``valid``."""
        criterion: Any = self.built_loss
        return criterion.step(outputs, [(batch["mask"], batch["valid"]) for batch in batches])

    def update_scores(self, scores: SegmentationScores, outputs: Tensor, batch: Batch) -> None:
        """Count the pixels of a batch: those of the picture as it was, where the batch has its ``whole_mask``."""
        if "whole_mask" in batch:
            answer = original_mask(self._strip(outputs, 0), batch, 0, self.calibration.thresholds)
            scores.update(answer.mask[None], batch["whole_mask"], batch["valid"])
        else:
            scores.update(decide(outputs, self.calibration.thresholds), batch["mask"], batch["valid"])

    def to_show(self, scores: SegmentationScores, outputs: Tensor, batch: Batch) -> dict[str, Tensor]:
        """``predicted_mask`` (B, H, W) uint8, ``iou`` (B,): the mean over the classes in the picture or its prediction,
        the background left out where there are two, NaN where there is none.

        ``badness``: 1 - IoU; ``uncertainty``: the mean over pixels of 1 - probability of the likeliest class.
        """
        classes = class_iou(scores.pictures[-1])
        iou = classes[:, 1 if scores.size == 2 else 0 :].nanmean(1).float()
        return {
            "predicted_mask": decide(outputs, self.calibration.thresholds).to(torch.uint8),
            "iou": iou,
            "badness": 1 - iou.nan_to_num(1.0),
            "uncertainty": 1 - _likeliest(outputs.detach()).mean((1, 2)),
        }

    def prediction(self, outputs: Tensor, batch: Batch, position: int) -> dict[str, Any]:
        """The row of class shares, and the mask at the original size; with ``gives_probs`` also ``probs``."""
        return self._prediction(self._strip(outputs, position), batch, position)

    def predict_step(self, batch: Batch, batch_idx: int) -> list[dict[str, Any]]:
        """One prediction a valid sample; where tiles answer, a picture's probabilities are never there as a whole."""
        answers: Any = self._response[0] if self._response else None
        if not hasattr(answers, "strips"):
            return super().predict_step(batch, batch_idx)
        found: list[dict[str, Any]] = []
        for at, (index, valid) in enumerate(
            zip(batch["index"].tolist(), batch["valid"].tolist(), strict=True)
        ):
            if valid:
                strips = (
                    (top, two_classes(probs)[0]) for top, probs in answers.strips(batch["image"][at : at + 1])
                )
                found.append({"index": index, **self._prediction(strips, batch, at)})
        return found

    def _prediction(
        self, strips: Iterable[tuple[int, Tensor]], batch: Batch, position: int
    ) -> dict[str, Any]:
        thresholds = self.calibration.thresholds
        mask, counts, probs = original_mask(strips, batch, position, thresholds, with_probs=self.gives_probs)
        shares = (counts / mask.numel()).tolist()
        names = self.class_names or []
        named = zip(names, shares[-len(names) :], strict=True)  # one channel has a background without a name
        row = {f"share_{name}": round(share, 6) for name, share in named}
        return {"row": row, "mask": mask.cpu().numpy()} | ({} if probs is None else {"probs": probs.numpy()})

    def _strip(self, outputs: Tensor, position: int) -> list[tuple[int, Tensor]]:
        """The probabilities of one sample, of at least two classes, in one piece."""
        return [(0, two_classes(self.link.probs(outputs[position : position + 1].detach()))[0])]


def _likeliest(logits: Tensor) -> Tensor:
    """(B, K, H, W) logits -> (B, H, W) float32 probability of the likeliest class."""
    if logits.shape[1] == 1:
        return logits[:, 0].float().abs().sigmoid()
    if logits.shape[1] == 2:  # a sigmoid is quicker than a softmax
        return (logits[:, 0] - logits[:, 1]).float().abs().sigmoid()
    return (logits.amax(1).float() - logits.float().logsumexp(1)).exp()
