"""Losses that take logits, are right on any input, and mean the same on one process as on many."""

from losses.box_loss import BoxLoss
from losses.box_overlap import BoxCIoULoss, BoxDIoULoss, BoxGIoULoss, BoxIoULoss
from losses.box_smooth_l1 import BoxSmoothL1Loss
from losses.class_balance import ClassCounts, class_weights, with_class_weights
from losses.create import BOX_LOSSES, LOSSES, create_box_loss, create_loss
from losses.cross_entropy import CrossEntropyLoss
from losses.dice import DiceLoss
from losses.dice_ce import DiceCELoss
from losses.focal import FocalLoss
from losses.iou import IoULoss
from losses.label_smoothing import LabelSmoothingLoss
from losses.loss import Loss
from losses.reduction import global_sum, local_reduction
from losses.step import Step
from losses.tversky import TverskyLoss
from losses.weighted_sum import WeightedSumLoss

__all__ = [
    "BOX_LOSSES",
    "LOSSES",
    "BoxCIoULoss",
    "BoxDIoULoss",
    "BoxGIoULoss",
    "BoxIoULoss",
    "BoxLoss",
    "BoxSmoothL1Loss",
    "ClassCounts",
    "CrossEntropyLoss",
    "DiceCELoss",
    "DiceLoss",
    "FocalLoss",
    "IoULoss",
    "LabelSmoothingLoss",
    "Loss",
    "Step",
    "TverskyLoss",
    "WeightedSumLoss",
    "class_weights",
    "create_box_loss",
    "create_loss",
    "global_sum",
    "local_reduction",
    "with_class_weights",
]
