"""Segmentation scores from one confusion matrix over the whole data set."""

import torch
from torch import Tensor

from metrics.boundary import boundary_distance, inner_boundary
from metrics.confusion import ConfusionMatrix
from metrics.per_sample import joined
from metrics.regions import picture_regions

__all__ = ["SegmentationScores"]


class SegmentationScores(ConfusionMatrix):
    """IoU, boundary IoU, Dice and pixel accuracy of label maps, each pixel counted once over all batches and processes.

    With the confusion matrix n (rows truth, columns prediction), for class c:
    ``IoU_c = n_cc / (row_c + column_c - n_cc)``, ``Dice_c = 2 n_cc / (row_c + column_c)``,
    accuracy = trace / sum (Everingham et al. 2015, section 4.2, for IoU over a data set).

    Boundary IoU is the IoU of inner boundaries (Cheng et al. 2021, equation 2): of each class only the pixels count
    that have another class, or the picture's end, within 2 % of the diagonal of the maps, each in its own map.
    Intersections and unions are summed over the data set. Void hides what is below it: it makes no boundary.

    A class that is neither predicted nor in the truth is absent: its scores are NaN and no mean counts it;
    with no class present the means are NaN. With two classes the means leave the background (class 0) out.
    ``num_classes=1`` (one output channel) is scored as background and foreground.

    What each picture holds of each class is kept on the device, 12 bytes a picture and class, shared among the
    processes until the end, when each of them holds all.

    >>> scores = SegmentationScores(3)
    >>> scores.update(torch.tensor([[[0, 1, 1, 0]]]), torch.tensor([[[0, 1, 0, 255]]]))
    >>> {name: round(value.item(), 3) for name, value in scores.compute().items() if value.ndim == 0}
    {'iou': 0.5, 'boundary_iou': 0.5, 'dice': 0.667, 'accuracy': 0.667}
    """

    pictures: list[Tensor]
    counted: list[Tensor]

    def __init__(self, num_classes: int, *, ignore_index: int = 255) -> None:
        # a pixel is at the boundary in the truth (2), in the prediction (1), in both (3) or in none (0)
        super().__init__(num_classes, ignore_index=ignore_index, what="pixels", kinds=4)
        self.add_state("pictures", [], dist_reduce_fx="cat")
        self.add_state("counted", [], dist_reduce_fx="cat")

    def update(self, preds: Tensor, target: Tensor, valid: Tensor | None = None) -> None:
        """Count a batch of class numbers (B, H, W); ``valid`` (B,) is false for padding samples."""
        kind = None
        if preds.shape == target.shape:
            hidden = target == self.ignore_index
            maps, distance = torch.cat([target, preds]), boundary_distance(*target.shape[1:])
            found = inner_boundary(maps, hidden.repeat(2, 1, 1), distance, self.size)
            truth, predicted = found.chunk(2)
            kind = 2 * truth + 1 * predicted
        self.count(preds, target, valid, kind=kind)
        valid = torch.ones(len(target), dtype=torch.bool, device=target.device) if valid is None else valid
        self.pictures.append(
            picture_regions(preds, target, valid, num_classes=self.size, ignore_index=self.ignore_index)
        )
        self.counted.append(valid)

    def compute(self) -> dict[str, Tensor]:
        """Scalars ``iou boundary_iou dice accuracy``; (K,) ``iou boundary_iou dice count``, each with ``_per_class``.

        And (K,) bool ``present``, the ``confusion`` matrix (K, K), rows truth, and of each picture ``regions``
        (N, 3, K): pixels that are right, in the truth, and predicted. Scores are float64, on the CPU, over all
        processes; the count is that of the truth.
        Raises LoupeError when masks held class numbers that are neither a class nor void.
        """
        matrix = self.checked()
        hits, truth, predicted = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
        present = (truth + predicted) > 0
        iou = hits / (truth + predicted - hits)  # 0 / 0 = NaN for an absent class
        dice = 2 * hits / (truth + predicted)
        first = 1 if self.size == 2 else 0
        boundary = self._boundary_iou()
        return {
            "iou": iou[first:].nanmean(),
            "boundary_iou": boundary[first:].nanmean(),
            "dice": dice[first:].nanmean(),
            "accuracy": hits.sum() / matrix.sum(),
            "iou_per_class": iou,
            "boundary_iou_per_class": boundary,
            "dice_per_class": dice,
            "count_per_class": truth,
            "present": present,
            "confusion": matrix,
            "regions": joined(self.pictures).view(-1, 3, self.size)[joined(self.counted).bool()],
        }

    def _boundary_iou(self) -> Tensor:
        _, only_predicted, only_truth, both = self.by_kind.cpu().double().unbind(-1)
        hits = both.diagonal()
        return hits / ((only_truth + both).sum(1) + (only_predicted + both).sum(0) - hits)
