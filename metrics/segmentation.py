"""Segmentation scores from one confusion matrix over the whole data set."""

import torch
from torch import Tensor
from torchmetrics import Metric

from errors import LoupeError

__all__ = ["SegmentationScores"]


class SegmentationScores(Metric):
    """IoU, Dice and pixel accuracy of label maps, each pixel counted once over all batches and processes.

    With the confusion matrix n (rows truth, columns prediction), for class c:
    ``IoU_c = n_cc / (row_c + column_c - n_cc)``, ``Dice_c = 2 n_cc / (row_c + column_c)``,
    accuracy = trace / sum (Everingham et al. 2015, section 4.2, for IoU over a data set).

    A class that is neither predicted nor in the truth is absent: its scores are NaN and no mean counts it;
    with no class present the means are NaN. With two classes the means leave the background (class 0) out.
    ``num_classes=1`` (one output channel) is scored as background and foreground.

    >>> scores = SegmentationScores(3)
    >>> scores.update(torch.tensor([[[0, 1, 1, 0]]]), torch.tensor([[[0, 1, 0, 255]]]))
    >>> {name: round(value.item(), 3) for name, value in scores.compute().items() if value.ndim == 0}
    {'iou': 0.5, 'dice': 0.667, 'accuracy': 0.667}
    """

    full_state_update = False
    higher_is_better = True
    counts: Tensor

    def __init__(self, num_classes: int, *, ignore_index: int = 255) -> None:
        super().__init__()
        if num_classes < 1:
            raise LoupeError(f"num_classes must be at least 1, got {num_classes}")
        self.size = max(2, num_classes)
        self.ignore_index = ignore_index
        # The last entry counts pixels with an impossible class, reported by compute(): a check here would
        # wait for the device in every step.
        self.add_state("counts", torch.zeros(self.size**2 + 1, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor, valid: Tensor | None = None) -> None:
        """Count a batch of class indices (B, H, W); ``valid`` (B,) is false for padding samples."""
        if preds.shape != target.shape:
            raise ValueError(f"preds {tuple(preds.shape)} and target {tuple(target.shape)} differ in shape")
        if preds.is_floating_point() or target.is_floating_point():
            raise TypeError(f"class indices are integers, got preds {preds.dtype} and target {target.dtype}")
        preds, target = preds.long(), target.long()
        counted = target != self.ignore_index
        if valid is not None:
            counted = counted & valid.view(-1, *(1,) * (target.ndim - 1))
        possible = (target >= 0) & (target < self.size) & (preds >= 0) & (preds < self.size)
        stray, unused = self.size**2, self.size**2 + 1
        bins = torch.where(possible, target * self.size + preds, stray).masked_fill(~counted, unused)
        self.counts = self.counts + _histogram(bins.flatten(), unused + 1)[:unused]

    @property
    def confusion(self) -> Tensor:
        """Pixel counts (K, K) of this process, rows truth, columns prediction."""
        return self.counts[:-1].view(self.size, self.size)

    def compute(self) -> dict[str, Tensor]:
        """Scalars ``iou dice accuracy``; (K,) ``iou_per_class dice_per_class`` and bool ``present``.

        Float64, on the CPU, over all processes.
        Raises LoupeError when masks held class numbers that are neither a class nor void.
        """
        stray = int(self.counts[-1])
        if stray:
            raise LoupeError(
                f"masks: {stray} pixels hold a class outside 0..{self.size - 1} that is not void "
                f"({self.ignore_index}) either; check the masks, or num_classes"
            )
        matrix = self.confusion.cpu().double()
        hits, truth, predicted = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
        present = (truth + predicted) > 0
        iou = hits / (truth + predicted - hits)  # 0 / 0 = NaN for an absent class
        dice = 2 * hits / (truth + predicted)
        first = 1 if self.size == 2 else 0
        return {
            "iou": iou[first:].nanmean(),
            "dice": dice[first:].nanmean(),
            "accuracy": hits.sum() / matrix.sum(),
            "iou_per_class": iou,
            "dice_per_class": dice,
            "present": present,
        }


def _histogram(bins: Tensor, size: int) -> Tensor:
    """Counts of the values 0..size-1 of an int64 vector, without waiting for the device."""
    if bins.device.type == "cpu":
        return torch.bincount(bins, minlength=size)
    # On a GPU bincount asks for the largest value and waits; histc with integers neither waits nor rounds.
    if bins.device.type == "cuda":
        return torch.histc(bins, bins=size, min=0, max=size).long()
    return torch.zeros(size, dtype=torch.int64, device=bins.device).scatter_add_(
        0, bins, torch.ones_like(bins)
    )
