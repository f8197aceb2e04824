"""Semantic segmentation: one class for each pixel."""

from typing import Any

import torch
from torch import Tensor, nn

from lightning_modules.base import Batch, LoupeModule, Stage
from lightning_modules.restore import to_original_size
from metrics import MeanLoss, SegmentationScores
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

    score_names = ("iou", "dice", "accuracy")

    def __init__(
        self,
        architecture: str = "unet",
        *,
        encoder: str | None = None,
        weights: str | None = None,
        options: dict[str, Any] | None = None,
        freeze_backbone: bool = False,
        unfreeze_epoch: int | None = None,
        backbone_learning_rate_factor: float = 1.0,
        training: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(
            recipe=training,
            backbone={
                "freeze": freeze_backbone,
                "unfreeze_epoch": unfreeze_epoch,
                "learning_rate_factor": backbone_learning_rate_factor,
            },
        )
        self.save_hyperparameters()
        self.architecture = architecture
        self.encoder = encoder
        self.weights = weights
        self.options = options
        self.val_scores: SegmentationScores | None = None
        self.test_scores: SegmentationScores | None = None
        self.val_loss = MeanLoss()
        self.test_loss = MeanLoss()

    @property
    def logged_names(self) -> list[str]:
        """Every key that a fit logs once an epoch; that of each class where there are more than two."""
        names = self.class_names or []
        per_class = [f"val/iou_per_class/{name}" for name in names] if len(names) > 2 else []
        return [*super().logged_names, *per_class]

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

    def create_scores(self, class_names: list[str]) -> None:
        """A confusion matrix and a mean loss each for validation and test."""
        self.val_scores = SegmentationScores(len(class_names))
        self.test_scores = SegmentationScores(len(class_names))

    def _shared_step(self, batch: Batch, stage: Stage) -> Tensor:
        logits = self(batch["image"])
        loss = self.loss(logits, batch["mask"], batch)
        if stage == "train":
            return self.log_training(loss, batch)
        scores, mean_loss = self._metrics(stage)
        mean_loss.update(loss, batch["valid"].sum())
        scores.update(_classes(logits), batch["mask"], batch["valid"])
        return loss

    def _metrics(self, stage: Stage) -> tuple[SegmentationScores, MeanLoss]:
        scores, loss = (
            (self.val_scores, self.val_loss) if stage == "val" else (self.test_scores, self.test_loss)
        )
        assert scores is not None, "configure_model() makes the scores"
        return scores, loss

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss to descend: that of the batch, and the regularizer."""
        return self._shared_step(batch, "train")

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Count a validation batch."""
        self._shared_step(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Count a test batch."""
        self._shared_step(batch, "test")

    def on_validation_epoch_end(self) -> None:
        """Log the scores of the whole validation set."""
        self._log_scores("val")

    def on_test_epoch_end(self) -> None:
        """Log the scores of the whole test set."""
        self._log_scores("test")

    def _log_scores(self, stage: Stage) -> None:
        scores, loss = self._metrics(stage)
        values = scores.compute()
        self.log(f"{stage}/loss", loss.compute())
        for name in self.score_names:
            self.log(f"{stage}/{name}", values[name], prog_bar=name == "iou")
        names = self.class_names or []
        if len(names) > 2:
            for name, value in zip(names, values["iou_per_class"].tolist(), strict=True):
                self.log(f"{stage}/iou_per_class/{name}", value)
        loss.reset()
        scores.reset()

    def predict_step(self, batch: Batch, batch_idx: int) -> list[dict[str, Any]]:
        """One prediction a valid sample: its row of class shares, and its mask at the original size."""
        probs = _probabilities(self(batch["image"]))
        return [
            self._prediction(
                probs[i],
                batch["to_original"][i],
                tuple(batch["size_hw_px"][i].tolist()),
                int(batch["index"][i]),
            )
            for i in range(len(probs))
            if bool(batch["valid"][i])
        ]

    def _prediction(self, probs: Tensor, to_original: Tensor, size_hw: Any, index: int) -> dict[str, Any]:
        mask = to_original_size(probs, to_original, size_hw).argmax(0).to(torch.uint8)
        names = self.class_names or []
        shares = torch.bincount(mask.flatten().long(), minlength=len(probs)) / mask.numel()
        row = {f"share_{name}": round(share, 6) for name, share in zip(names, shares.tolist(), strict=False)}
        return {"index": index, "row": row, "mask": mask.cpu().numpy()}


def _classes(logits: Tensor) -> Tensor:
    """(B, K, H, W) logits -> (B, H, W) class numbers; one channel is a yes or no."""
    return (logits[:, 0] > 0).long() if logits.shape[1] == 1 else logits.argmax(1)


def _probabilities(logits: Tensor) -> Tensor:
    """(B, K, H, W) logits -> float probabilities of at least two classes."""
    if logits.shape[1] == 1:
        yes = logits.float().sigmoid()
        return torch.cat([1 - yes, yes], dim=1)
    return logits.float().softmax(1)
