"""Scores of pictures with any number of labels: from four counts a class, and from the order of all probabilities."""

import torch
from torch import Tensor
from torchmetrics import Metric

from errors import LoupeError
from metrics.calibration import bin_confidence, calibration_error
from metrics.per_sample import joined
from metrics.ranking import rank_classes

__all__ = ["MultiLabelScores"]


class MultiLabelScores(Metric):
    """Accuracy, F1, ranking and calibration of yes-or-no answers, each counted once over all batches and processes.

    With hits tp, misses fn, false alarms fp and rejections tn of a class: ``accuracy`` is (tp + tn) / all over pictures
    and classes; ``recall_c = tp / (tp + fn)``; balanced accuracy the mean over classes of (recall_c + tn / (tn + fp)) /
    2; ``F1_c = 2 tp / (2 tp + fp + fn)``, F1 their mean (macro average).

    AUROC and average precision (`metrics.ranking`) are of each class by its probability, and the mean over classes. The
    calibration error (`metrics.calibration`) is that of all answers together, in 15 bins, where a no has the confidence
    1 - p.

    A class that no picture has has no recall, no AUROC and no average precision: NaN, and no mean counts it; nor does
    balanced accuracy or AUROC count one that all pictures have. F1 counts a class without pictures as 0 where it is
    predicted. With nothing counted all scores are NaN.

    All logits and labels are kept on the device, 5 bytes a picture and class, shared among the processes until the end,
    when each of them holds all.

    >>> scores = MultiLabelScores(2)
    >>> scores.update(torch.tensor([[2.0, -1.0], [1.0, 1.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    >>> {name: round(value.item(), 3) for name, value in scores.compute().items() if value.ndim == 0}
    {'accuracy': 0.75, 'balanced_accuracy': 0.75, 'f1': 0.833, 'auroc': 1.0, 'average_precision': 1.0, \
'calibration_error': 0.078}
    """

    full_state_update = False
    higher_is_better = True
    counts: Tensor
    stray: Tensor
    logits: list[Tensor]
    labels: list[Tensor]

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        # Rows tn, fp, fn, tp. `stray` counts targets that are neither 0 nor 1: a check here would wait for the device.
        self.add_state("counts", torch.zeros(4, num_classes, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("stray", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("logits", [], dist_reduce_fx="cat")
        self.add_state("labels", [], dist_reduce_fx="cat")

    def update(
        self,
        logits: Tensor,
        target: Tensor,
        valid: Tensor | None = None,
        *,
        answers: Tensor | None = None,
    ) -> None:
        """Count logits (B, K), above 0 a yes, and ``target`` (B, K) 0 or 1; ``valid`` (B,) is false for padding.

        ``answers`` (B, K) bool: what is answered, where a yes begins elsewhere.
        """
        if logits.shape != target.shape or logits.shape[1:] != (self.num_classes,):
            shapes = f"logits {tuple(logits.shape)} and target {tuple(target.shape)}"
            raise ValueError(f"{shapes} must be (B, {self.num_classes})")
        logits = logits.detach().float()
        preds, yes = logits > 0 if answers is None else answers, target > 0.5
        counted = torch.ones_like(yes) if valid is None else valid[:, None].expand_as(yes)
        self.stray = self.stray + (counted & (target != yes)).sum()
        cells = [~preds & ~yes, preds & ~yes, ~preds & yes, preds & yes]
        self.counts = self.counts + torch.stack([(cell & counted).sum(0) for cell in cells])
        self.logits.append(logits)
        self.labels.append(torch.where(counted, yes.to(torch.int8), -1))

    def compute(self) -> dict[str, Tensor]:
        """Scalars ``accuracy balanced_accuracy f1 auroc average_precision calibration_error``, and (K,)
        ``precision recall f1 auroc average_precision count``, each with ``_per_class``.

        And ``reliability`` (15, 3), see `bin_confidence`; of each picture ``label`` (N, K) bool and ``log_odds`` (N, K)
        float32. Scores are float64, on the CPU, over all processes; the count is that of the truth.
        """
        if int(self.stray):
            raise LoupeError(f"labels: {int(self.stray)} are neither 0 nor 1")
        tn, fp, fn, tp = self.counts.cpu().double()
        recall, precision = tp / (tp + fn), tp / (tp + fp)  # 0 / 0 = NaN
        f1 = 2 * tp / (2 * tp + fp + fn)
        labels = joined(self.labels).view(-1, self.num_classes)
        counted = labels[:, 0] >= 0
        truth, logits = labels[counted] > 0, joined(self.logits).view(-1, self.num_classes)[counted]
        auroc, average_precision = map(torch.from_numpy, rank_classes(logits.numpy(), truth.numpy()))
        answers = zip(logits.T, truth.T, strict=True)  # a class at a time: less memory
        table = torch.stack(
            [bin_confidence(column.abs().sigmoid(), (column > 0) == yes) for column, yes in answers]
        )
        return {
            "accuracy": (tp + tn).sum() / self.counts.sum().cpu(),
            "balanced_accuracy": ((recall + tn / (tn + fp)) / 2).nanmean(),
            "f1": f1.nanmean(),
            "auroc": auroc.nanmean(),
            "average_precision": average_precision.nanmean(),
            "calibration_error": calibration_error(table.sum(0)),
            "precision_per_class": precision,
            "recall_per_class": recall,
            "f1_per_class": f1,
            "auroc_per_class": auroc,
            "average_precision_per_class": average_precision,
            "count_per_class": tp + fn,
            "reliability": table.sum(0),
            "label": truth,
            "log_odds": logits,
        }
