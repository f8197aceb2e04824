"""Dice loss, for segmentation scored by overlap."""

from typing import Literal

from torch import Tensor

from losses import options
from losses.batch import Batch
from losses.class_balance import ClassWeight
from losses.loss import Loss
from losses.reduction import ratio
from losses.regions import RegionOptions, RegionTerm
from losses.term import Term

__all__ = ["DiceLoss"]


class DiceLoss(Loss):
    """One minus soft Dice, ``1 - (2 sum(p g) + s) / (sum(p) + sum(g) + s)``, mean over classes.

    p is the softmax (one channel and multi-label: sigmoid), g the target, s ``smooth``; ``squared`` takes
    ``sum(p^2)`` for ``sum(p)``. Sums run over the whole (global) batch, with ``per_image`` over each image.
    ``include_background=False`` leaves class 0 out of the mean, after the softmax; ``absent="skip"`` leaves
    out classes without a target position, ``"keep"`` has them at what the formula gives.

    >>> import torch
    >>> logits = torch.zeros(1, 2, 4)  # p = 0.5 everywhere
    >>> round(DiceLoss(smooth=0.0)(logits, torch.tensor([[0, 0, 0, 1]])).item(), 6)  # (1-3/5 + 1-1/3) / 2
    0.533333

    Source: Milletari et al. 2016, V-Net (squared form); Sudre et al. 2017, eq. 2 (plain form).
    """

    name = "dice"

    def __init__(
        self,
        *,
        smooth: float = 1e-5,
        squared: bool = False,
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
            per_image=per_image, include_background=include_background, absent=absent, squared=squared
        )

    def terms(self, batch: Batch) -> list[tuple[float, Term]]:
        return [(1.0, RegionTerm(self.name, self.class_weight, self._class_loss, self.regions))]

    def _class_loss(self, overlap: Tensor, predicted: Tensor, truth: Tensor) -> Tensor:
        # 1 - (2o + s) / (p + g + s) on one fraction bar: nothing cancels, and nothing to find is exactly 0.
        return ratio(predicted + truth - 2 * overlap, predicted + truth + self.smooth)
