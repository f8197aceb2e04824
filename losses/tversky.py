"""Tversky and focal Tversky loss: dice with a price each for false positives and false negatives."""

from typing import Literal

import torch
from torch import Tensor

from errors import LoupeError
from losses import options
from losses.batch import Batch
from losses.class_balance import ClassWeight
from losses.loss import Loss
from losses.reduction import ratio
from losses.regions import RegionOptions, RegionTerm
from losses.term import Term

__all__ = ["TverskyLoss"]


class TverskyLoss(Loss):
    """``(1 - T)^gamma``, mean over classes, with ``T = (TP + s) / (TP + alpha FP + beta FN + s)``.

    ``TP = sum(p g)``, ``FP = sum(p (1 - g))``, ``FN = sum((1 - p) g)``; other symbols and options as in
    ``DiceLoss``. alpha weighs false positives, beta false negatives. ``Tversky(.5, .5, smooth=s)`` is
    ``dice(smooth=2s)``, ``Tversky(1, 1)`` is iou.

    >>> logits = torch.zeros(1, 2, 4)  # p = 0.5 everywhere
    >>> loss = TverskyLoss(smooth=0.0)(logits, torch.tensor([[0, 0, 0, 1]]))
    >>> round(loss.item(), 6)  # (1 - 1.5/(1.5+.3*.5+.7*1.5) + 1 - .5/(.5+.3*1.5+.7*.5)) / 2
    0.529915

    Source: Salehi et al. 2017, eq. 3-4; gamma: Abraham and Khan 2019, eq. 4, whose exponent ``1/gamma`` is
    ours.
    """

    name = "tversky"

    def __init__(
        self,
        *,
        alpha: float = 0.3,
        beta: float = 0.7,
        gamma: float = 1.0,
        smooth: float = 1e-5,
        per_image: bool = False,
        include_background: bool = True,
        absent: Literal["keep", "skip"] = "keep",
        ignore_index: int | None = None,
        class_weight: ClassWeight = None,
        multilabel: bool = False,
    ) -> None:
        super().__init__(ignore_index=ignore_index, class_weight=class_weight, multilabel=multilabel)
        self.alpha = options.number("alpha", alpha)
        self.beta = options.number("beta", beta)
        if self.alpha == 0 and self.beta == 0:
            raise LoupeError(
                "tversky: alpha and beta are both 0, so no error costs anything; set at least one above 0"
            )
        self.gamma = options.number("gamma", gamma, above=True)
        self.smooth = options.number("smooth", smooth)
        self.regions = RegionOptions(
            per_image=per_image, include_background=include_background, absent=absent
        )

    def terms(self, batch: Batch) -> list[tuple[float, Term]]:
        return [(1.0, RegionTerm(self.name, self.class_weight, self._class_loss, self.regions))]

    def _class_loss(self, overlap: Tensor, predicted: Tensor, truth: Tensor) -> Tensor:
        missed = self.alpha * (predicted - overlap) + self.beta * (truth - overlap)
        loss = ratio(missed, overlap + missed + self.smooth)
        if self.gamma == 1:
            return loss
        # The slope of x^gamma is infinite at 0 for gamma < 1: a class that is solved has none.
        solved = loss <= torch.finfo(loss.dtype).tiny
        return torch.where(solved, 0.0, torch.where(solved, torch.ones_like(loss), loss) ** self.gamma)
