"""Dice plus cross entropy, the usual choice for segmentation."""

from dataclasses import replace
from typing import Literal

from errors import LoupeError
from losses import options
from losses.batch import Batch
from losses.class_balance import ClassWeight
from losses.cross_entropy import CrossEntropyLoss
from losses.dice import DiceLoss
from losses.loss import Loss
from losses.regions import RegionTerm
from losses.term import Term

__all__ = ["DiceCELoss"]


class DiceCELoss(Loss):
    """``dice_weight * dice + ce_weight * cross entropy``, with the options of both losses.

    ``class_weight`` and ``ignore_index`` hold for both parts; with one channel, which dice sees as one
    region, ``class_weight`` (negative, positive) concerns the cross entropy only. Class probabilities are
    refused.

    >>> import torch
    >>> logits = torch.zeros(1, 2, 4)  # p = 0.5 everywhere
    >>> round(DiceCELoss(smooth=0.0)(logits, torch.tensor([[0, 0, 0, 1]])).item(), 6)  # 0.533333 + log(2)
    1.22648

    Source: Isensee et al. 2018, nnU-Net, section 2.3.
    """

    name = "dice_ce"

    def __init__(
        self,
        *,
        dice_weight: float = 1.0,
        ce_weight: float = 1.0,
        smooth: float = 1e-5,
        squared: bool = False,
        per_image: bool = False,
        include_background: bool = True,
        absent: Literal["keep", "skip"] = "keep",
        label_smoothing: float = 0.0,
        normalization: Literal["weights", "count"] = "weights",
        ignore_index: int | None = None,
        class_weight: ClassWeight = None,
        multilabel: bool = False,
    ) -> None:
        super().__init__(ignore_index=ignore_index, class_weight=class_weight, multilabel=multilabel)
        self.dice_weight = options.number("dice_weight", dice_weight)
        self.ce_weight = options.number("ce_weight", ce_weight)
        if self.dice_weight == 0 and self.ce_weight == 0:
            raise LoupeError("dice_ce: dice_weight and ce_weight are both 0; set at least one above 0")
        self.cross_entropy = CrossEntropyLoss(
            label_smoothing=label_smoothing,
            normalization=normalization,
            ignore_index=ignore_index,
            class_weight=class_weight,
            multilabel=multilabel,
        )
        self.dice = DiceLoss(
            smooth=smooth,
            squared=squared,
            per_image=per_image,
            include_background=include_background,
            absent=absent,
            ignore_index=ignore_index,
            class_weight=class_weight,
            multilabel=multilabel,
        )

    def terms(self, batch: Batch) -> list[tuple[float, Term]]:
        parts: list[tuple[float, Loss]] = [
            (self.ce_weight, self.cross_entropy),
            (self.dice_weight, self.dice),
        ]
        terms = [
            (w, replace(term, loss=self.name)) for w, part in parts if w for _, term in part.terms(batch)
        ]
        if batch.kind == "binary" and self.ce_weight:
            # One region for dice: the weights are those of the cross entropy's two classes.
            return [(w, replace(t, class_weight=None) if isinstance(t, RegionTerm) else t) for w, t in terms]
        return terms
