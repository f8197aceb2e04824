"""Classification: one class for each picture, or any number of them."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from lightning_modules.base import Batch, LoupeModule
from lightning_modules.calibration import decide
from lightning_modules.links import Link
from losses import Step
from metrics import ClassificationScores, MultiLabelScores
from models import backbone_interpolation, create_model

__all__ = ["ClassificationModule"]


class ClassificationModule(LoupeModule):
    """Trains a classifier on ``image`` and ``label``; scores are of the whole data set.

    Where the data has any number of labels for a picture, each class is a yes or no of its own.

    Args:
        backbone: Any network of timm by name; pictures are normalised and resized as its weights expect.
        weights: null, ``imagenet`` (from the hub), or a FILE for the backbone or for the whole network.
        options: More arguments of timm's network, such as ``{drop_rate: 0.2, drop_path_rate: 0.1}``.
        freeze_backbone: Keep the backbone's weights and norms as they are.
        unfreeze_epoch: Train the backbone too from this epoch on (the first is 0).
        backbone_learning_rate_factor: Learning rate of the backbone as a factor of `training.learning_rate`.
        training: Set by the `training:` section.
    """

    learns: ClassVar[tuple[str, ...]] = ("label",)
    compares: ClassVar[str] = "a class for each picture"
    score_names: ClassVar[tuple[str, ...]] = (
        "accuracy",
        "balanced_accuracy",
        "f1",
        "top5",
        "auroc",
        "average_precision",
        "calibration_error",
    )
    class_score_names: ClassVar[tuple[str, ...]] = ("recall",)

    # The command line reads the other arguments from the base's signature.
    def __init__(self, backbone: str = "mobilenetv3_small_100", **others: Any) -> None:
        super().__init__(**others)
        self.backbone = backbone

    @property
    def input_interpolation(self) -> Literal["bilinear", "bicubic"]:
        """That of the backbone's pretrained weights."""
        return backbone_interpolation(self.backbone)

    @property
    def link(self) -> Link:
        """One class a picture, or a yes or no for each."""
        return Link("sigmoid" if self.multi_label else "softmax")

    def create_network(self, class_names: list[str], in_channels: int, *, pretrained: bool) -> nn.Module:
        """The classifier: image batch -> logits (B, K)."""
        return create_model(
            "classifier",
            num_classes=len(class_names),
            in_channels=in_channels,
            encoder=self.backbone,
            weights=self.weights if pretrained else None,
            options=self.options,
        )

    def create_scores(self, class_names: list[str]) -> ClassificationScores | MultiLabelScores:
        """Scores of one class a picture, or of a yes or no for each class."""
        return (
            MultiLabelScores(len(class_names)) if self.multi_label else ClassificationScores(len(class_names))
        )

    @property
    def logged_names(self) -> list[str]:
        """As the base's, less ``top5`` where the data is known to have five classes or fewer, or several labels."""
        trivial = self.multi_label or (self.class_names is not None and len(self.class_names) <= 5)
        return [name for name in super().logged_names if not (trivial and name == "val/top5")]

    def loss_terms(self, outputs: Tensor, batch: Batch, step: Step | None = None) -> tuple[Tensor, Tensor]:
        """The loss between logits (B, K) and ``label``, a mean over the pictures."""
        loss = self.built_loss(outputs, batch["label"], sample_weight=batch["valid"], step=step)
        return loss, batch["valid"].sum()

    def loss_step(self, outputs: Tensor, batches: Sequence[Batch]) -> Step:
        """From ``label`` and ``valid``."""
        criterion: Any = self.built_loss
        return criterion.step(outputs, [(batch["label"], batch["valid"]) for batch in batches])

    def update_scores(
        self, scores: ClassificationScores | MultiLabelScores, outputs: Tensor, batch: Batch
    ) -> None:
        """Count the pictures of a batch."""
        answers = decide(outputs, self.calibration.thresholds, several=self.multi_label)
        scores.update(outputs, batch["label"], batch["valid"], answers=answers)

    def to_show(
        self, scores: ClassificationScores | MultiLabelScores, outputs: Tensor, batch: Batch
    ) -> dict[str, Tensor]:
        """``probs`` (B, K); ``answer``: class numbers (B,), or (B, K) bool; ``badness``: -log p of what is true, the
        mean over classes where there are several labels; ``uncertainty``: entropy, the mean likewise, in nats.
        """
        logits, label = outputs.detach().float(), batch["label"]
        answer = decide(outputs.detach(), self.calibration.thresholds, several=self.multi_label)
        if self.multi_label:
            yes, no = logits.sigmoid(), (-logits).sigmoid()
            entropy = -(yes * logsigmoid(logits) + no * logsigmoid(-logits))
            badness = binary_cross_entropy_with_logits(logits, label, reduction="none").mean(1)
            return {"probs": yes, "answer": answer, "badness": badness, "uncertainty": entropy.mean(1)}
        log_probs = logits.log_softmax(1)
        right = label[:, None].clamp(0, logits.shape[1] - 1)  # an impossible class is reported at the end
        entropy = -(log_probs.exp() * log_probs).sum(1)
        return {
            "probs": log_probs.exp(),
            "answer": answer,
            "badness": -log_probs.gather(1, right)[:, 0],
            "uncertainty": entropy,
        }

    def prediction(self, outputs: Tensor, batch: Batch, position: int) -> dict[str, Any]:
        """The row: the answer and its probability, or all labels that are answered; the probability of each class."""
        names = self.class_names or []
        logits = outputs[position : position + 1].float().cpu().double()
        probs = self.link.probs(logits)[0].tolist()
        one = outputs[position : position + 1]  # in its own type: decided as it is when it is scored
        answer: Any = decide(one, self.calibration.thresholds, several=self.multi_label)[0].tolist()
        each = {f"prob_{name}": round(prob, 6) for name, prob in zip(names, probs, strict=True)}
        if self.multi_label:
            likely = [name for name, yes in zip(names, answer, strict=True) if yes]
            return {"row": {"labels": ";".join(likely), **each}}
        return {"row": {"label": names[answer], "confidence": round(probs[answer], 6), **each}}
