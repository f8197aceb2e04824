"""Segmentation scores from one confusion matrix over the whole data set."""

from torch import Tensor

from metrics.confusion import ConfusionMatrix

__all__ = ["SegmentationScores"]


class SegmentationScores(ConfusionMatrix):
    """IoU, Dice and pixel accuracy of label maps, each pixel counted once over all batches and processes.

    With the confusion matrix n (rows truth, columns prediction), for class c:
    ``IoU_c = n_cc / (row_c + column_c - n_cc)``, ``Dice_c = 2 n_cc / (row_c + column_c)``,
    accuracy = trace / sum (Everingham et al. 2015, section 4.2, for IoU over a data set).

    A class that is neither predicted nor in the truth is absent: its scores are NaN and no mean counts it;
    with no class present the means are NaN. With two classes the means leave the background (class 0) out.
    ``num_classes=1`` (one output channel) is scored as background and foreground.

    >>> import torch
    >>> scores = SegmentationScores(3)
    >>> scores.update(torch.tensor([[[0, 1, 1, 0]]]), torch.tensor([[[0, 1, 0, 255]]]))
    >>> {name: round(value.item(), 3) for name, value in scores.compute().items() if value.ndim == 0}
    {'iou': 0.5, 'dice': 0.667, 'accuracy': 0.667}
    """

    def __init__(self, num_classes: int, *, ignore_index: int = 255) -> None:
        super().__init__(num_classes, ignore_index=ignore_index, what="pixels")

    def compute(self) -> dict[str, Tensor]:
        """Scalars ``iou dice accuracy``; (K,) ``iou_per_class dice_per_class count_per_class`` and bool ``present``.

        Float64, on the CPU, over all processes; the count is that of the truth.
        Raises LoupeError when masks held class numbers that are neither a class nor void.
        """
        matrix = self.checked()
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
            "count_per_class": truth,
            "present": present,
        }
