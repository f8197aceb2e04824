"""Box losses by overlap: IoU and its three refinements for boxes that do not touch."""

import math

import torch
from torch import Tensor

from losses.box_loss import BoxLoss
from losses.reduction import ratio

__all__ = ["BoxCIoULoss", "BoxDIoULoss", "BoxGIoULoss", "BoxIoULoss"]


class BoxIoULoss(BoxLoss):
    """One minus intersection over union. Boxes that do not overlap cost 1 and pull nowhere.

    No small number is added anywhere, so boxes in 0..1 are as exact as boxes in pixels.

    >>> loss = BoxIoULoss()(torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[1.0, 0, 3, 2]]))
    >>> round(loss.item(), 6)  # 1 - 2 / 6
    0.666667

    Source: Yu et al. 2016, UnitBox, without the logarithm.
    """

    name = "iou"

    def sample_loss(self, preds: Tensor, target: Tensor) -> Tensor:
        """``1 - overlap / union``."""
        return 1 - ratio(*_overlap_and_union(preds, target))


class BoxGIoULoss(BoxLoss):
    """One minus generalised IoU, ``GIoU = IoU - (hull - union) / hull``: distant boxes cost up to 2.

    ``hull`` is the area of the smallest box around both.

    >>> loss = BoxGIoULoss()(torch.tensor([[0.0, 0, 1, 1]]), torch.tensor([[2.0, 0, 3, 1]]))
    >>> round(loss.item(), 6)  # 1 - 0 + (3 - 2) / 3
    1.333333

    Source: Rezatofighi et al. 2019, algorithm 1.
    """

    name = "giou"

    def sample_loss(self, preds: Tensor, target: Tensor) -> Tensor:
        """``1 - GIoU``."""
        overlap, union = _overlap_and_union(preds, target)
        hull = _hull(preds, target).prod(-1)
        return 1 - ratio(overlap, union) + ratio(hull - union, hull)


class BoxDIoULoss(BoxLoss):
    """One minus IoU, plus the squared distance of the centres over the squared diagonal of the hull.

    >>> loss = BoxDIoULoss()(torch.tensor([[0.0, 0, 1, 1]]), torch.tensor([[2.0, 0, 3, 1]]))
    >>> round(loss.item(), 6)  # 1 - 0 + 2^2 / (3^2 + 1^2)
    1.4

    Source: Zheng et al. 2020, Distance-IoU Loss, eq. 7.
    """

    name = "diou"

    def sample_loss(self, preds: Tensor, target: Tensor) -> Tensor:
        """``1 - IoU + d^2 / c^2``."""
        return 1 - ratio(*_overlap_and_union(preds, target)) + _distance(preds, target)


class BoxCIoULoss(BoxLoss):
    """DIoU's loss, plus ``alpha v``: how far the ratio of width to height is off.

    ``v = 4 / pi^2 (atan(w'/h') - atan(w/h))^2`` and ``alpha = v / (1 - IoU + v)``, a constant for the gradient.

    >>> loss = BoxCIoULoss()(torch.tensor([[0.0, 0, 1, 1]]), torch.tensor([[2.0, 0, 3, 1]]))
    >>> round(loss.item(), 6)  # both are squares: as DIoU
    1.4

    Source: Zheng et al. 2020, Distance-IoU Loss, eq. 8-11.
    """

    name = "ciou"

    def sample_loss(self, preds: Tensor, target: Tensor) -> Tensor:
        """``1 - IoU + d^2 / c^2 + alpha v``."""
        iou = ratio(*_overlap_and_union(preds, target))
        v = 4 / math.pi**2 * (_slant(target) - _slant(preds)).square()
        alpha = ratio(v, 1 - iou + v).detach()
        return 1 - iou + _distance(preds, target) + alpha * v


def _overlap_and_union(preds: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Areas, (N,) each."""
    low = torch.maximum(preds[:, :2], target[:, :2])
    high = torch.minimum(preds[:, 2:], target[:, 2:])
    overlap = (high - low).clamp(min=0).prod(-1)
    return overlap, _size(preds).prod(-1) + _size(target).prod(-1) - overlap


def _size(box: Tensor) -> Tensor:
    """Width and height, (N, 2)."""
    return box[:, 2:] - box[:, :2]


def _hull(preds: Tensor, target: Tensor) -> Tensor:
    """Width and height of the smallest box around both, (N, 2)."""
    return torch.maximum(preds[:, 2:], target[:, 2:]) - torch.minimum(preds[:, :2], target[:, :2])


def _distance(preds: Tensor, target: Tensor) -> Tensor:
    """Squared distance of the centres over the squared diagonal of the hull, (N,)."""
    apart = (preds[:, :2] + preds[:, 2:] - target[:, :2] - target[:, 2:]) / 2
    return ratio(apart.square().sum(-1), _hull(preds, target).square().sum(-1))


def _slant(box: Tensor) -> Tensor:
    """Angle whose tangent is width / height, (N,); that of a square for a point, which has none."""
    width, height = _size(box).unbind(-1)
    point = (width == 0) & (height == 0)
    one = torch.ones_like(width)
    return torch.atan2(torch.where(point, one, width), torch.where(point, one, height))
