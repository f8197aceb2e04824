"""Soft intersection over union (Jaccard) loss."""

from typing import Literal

from torch import Tensor

from losses import options
from losses.batch import Batch
from losses.class_balance import ClassWeight
from losses.loss import Loss
from losses.reduction import ratio
from losses.regions import RegionOptions, RegionTerm
from losses.term import Term

__all__ = ["IoULoss"]


class IoULoss(Loss):
    """One minus soft IoU, ``1 - (sum(p g) + s) / (sum(p) + sum(g) - sum(p g) + s)``, mean over classes.

    Symbols and options as in ``DiceLoss``.

    >>> import torch
    >>> logits = torch.zeros(1, 2, 4)  # p = 0.5 everywhere
    >>> loss = IoULoss(smooth=0.0)(logits, torch.tensor([[0, 0, 0, 1]]))
    >>> round(loss.item(), 6)  # (1 - 1.5/3.5 + 1 - 0.5/2.5) / 2
    0.685714

    Source: Rahman and Wang 2016, Optimizing Intersection-Over-Union in Deep Neural Networks, eq. 3-5.
    """

    name = "iou"

    def __init__(
        self,
        *,
        smooth: float = 1e-5,
        per_image: bool = False,
        include_background: bool = True,
        absent: Literal["keep", "skip"] = "keep",
        ignore_index: int | None = None,
        class_weight: ClassWeight = None,
        multilabel: bool = False,
    ) -> None:
        super().__init__(ignore_index=ignore_index, class_weight=class_weight, multilabel=multilabel)
        self.smooth = options.number("smooth", smooth)
        self.regions = RegionOptions(
            per_image=per_image, include_background=include_background, absent=absent
        )

    def terms(self, batch: Batch) -> list[tuple[float, Term]]:
        return [(1.0, RegionTerm(self.name, self.class_weight, self._class_loss, self.regions))]

    def _class_loss(self, overlap: Tensor, predicted: Tensor, truth: Tensor) -> Tensor:
        return ratio(predicted + truth - 2 * overlap, predicted + truth - overlap + self.smooth)
