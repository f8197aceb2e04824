"""Scores of pictures with any number of labels, from four counts a class over the whole data set."""

import torch
from torch import Tensor
from torchmetrics import Metric

from errors import LoupeError

__all__ = ["MultiLabelScores"]


class MultiLabelScores(Metric):
    """Accuracy, balanced accuracy and F1 of yes-or-no answers, each counted once over all batches and processes.

    With hits tp, misses fn, false alarms fp and rejections tn of a class: ``accuracy`` is (tp + tn) / all over pictures
    and classes; ``recall_c = tp / (tp + fn)``; balanced accuracy the mean over classes of (recall_c + tn / (tn + fp)) /
    2; ``F1_c = 2 tp / (2 tp + fp + fn)``, F1 their mean (macro average).

    A class that no picture has has no recall, NaN, and balanced accuracy does not count it, nor one that all pictures
    have; F1 counts it as 0 where it is predicted. With nothing counted all scores are NaN.

    >>> scores = MultiLabelScores(2)
    >>> scores.update(torch.tensor([[True, False], [True, True]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    >>> {name: round(value.item(), 3) for name, value in scores.compute().items() if value.ndim == 0}
    {'accuracy': 0.75, 'balanced_accuracy': 0.75, 'f1': 0.833}
    """

    full_state_update = False
    higher_is_better = True
    counts: Tensor
    stray: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        # Rows tn, fp, fn, tp. `stray` counts targets that are neither 0 nor 1: a check here would wait for the device.
        self.add_state("counts", torch.zeros(4, num_classes, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("stray", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor, valid: Tensor | None = None) -> None:
        """Count a batch: ``preds`` (B, K) bool, ``target`` (B, K) 0 or 1; ``valid`` (B,) is false for padding."""
        if preds.shape != target.shape or preds.shape[1:] != (self.num_classes,):
            shapes = f"preds {tuple(preds.shape)} and target {tuple(target.shape)}"
            raise ValueError(f"{shapes} must be (B, {self.num_classes})")
        yes = target > 0.5
        counted = torch.ones_like(yes) if valid is None else valid[:, None].expand_as(yes)
        self.stray = self.stray + (counted & (target != yes)).sum()
        cells = [~preds & ~yes, preds & ~yes, ~preds & yes, preds & yes]
        self.counts = self.counts + torch.stack([(cell & counted).sum(0) for cell in cells])

    def compute(self) -> dict[str, Tensor]:
        """Scalars ``accuracy balanced_accuracy f1``; (K,) ``recall f1 precision count`` each with ``_per_class``."""
        if int(self.stray):
            raise LoupeError(f"labels: {int(self.stray)} are neither 0 nor 1")
        tn, fp, fn, tp = self.counts.cpu().double()
        recall, precision = tp / (tp + fn), tp / (tp + fp)  # 0 / 0 = NaN
        f1 = 2 * tp / (2 * tp + fp + fn)
        return {
            "accuracy": (tp + tn).sum() / self.counts.sum().cpu(),
            "balanced_accuracy": ((recall + tn / (tn + fp)) / 2).nanmean(),
            "f1": f1.nanmean(),
            "precision_per_class": precision,
            "recall_per_class": recall,
            "f1_per_class": f1,
            "count_per_class": tp + fn,
        }
