"""How much of each class there is in each picture, how much was predicted, and how much of both is the same."""

import torch
from torch import Tensor

from metrics.confusion import histogram

__all__ = ["class_iou", "picture_regions"]


def picture_regions(
    preds: Tensor, target: Tensor, valid: Tensor, *, num_classes: int, ignore_index: int | None = None
) -> Tensor:
    """Pixels of each picture and class: right, in the truth, predicted; int32 (B, 3, K). Does not wait for the device.

    Args:
        preds: Class numbers, (B, H, W), any integers.
        target: Class numbers, (B, H, W); pixels of ``ignore_index`` and of impossible classes are not counted at all.
        valid: False for padding samples, all of whose counts are 0, (B,) bool.
        num_classes: K.
        ignore_index: No class.

    >>> preds, target = torch.tensor([[[0, 1, 1, 1]]]), torch.tensor([[[0, 1, 0, 255]]])
    >>> picture_regions(preds, target, torch.tensor([True]), num_classes=2, ignore_index=255).tolist()
    [[[1, 1], [2, 1], [1, 2]]]
    """
    preds, target = preds.long(), target.long()
    pictures = len(target)
    counted = valid.view(-1, 1, 1) & (target >= 0) & (target < num_classes)
    counted = counted & (preds >= 0) & (preds < num_classes)
    if ignore_index is not None:
        counted = counted & (target != ignore_index)
    first = torch.arange(pictures, device=target.device).view(-1, 1, 1) * num_classes
    unused = pictures * num_classes
    found = [
        histogram(torch.where(where, first + classes, unused).flatten(), unused + 1)[:unused]
        for where, classes in (
            (counted & (preds == target), target),
            (counted, target),
            (counted, preds),
        )
    ]
    return torch.stack(found, dim=0).view(3, pictures, num_classes).transpose(0, 1).to(torch.int32)


def class_iou(regions: Tensor) -> Tensor:
    """IoU from counts (..., 3, K) of `picture_regions`: float32 (..., K), NaN for a class that is in neither map."""
    right, truth, predicted = regions.unbind(-2)  # exact: the sums are of integers
    return right / (truth + predicted - right)
