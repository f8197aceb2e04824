"""Losses by name."""

import inspect
from typing import Any

from errors import LoupeError, nearest, unknown
from losses.cross_entropy import CrossEntropyLoss
from losses.dice import DiceLoss
from losses.dice_ce import DiceCELoss
from losses.focal import FocalLoss
from losses.iou import IoULoss
from losses.label_smoothing import LabelSmoothingLoss
from losses.loss import Loss
from losses.tversky import TverskyLoss
from losses.weighted_sum import WeightedSumLoss

__all__ = ["LOSSES", "create_loss"]

LOSSES: dict[str, type[Loss]] = {
    loss.name: loss
    for loss in (
        CrossEntropyLoss,
        FocalLoss,
        DiceLoss,
        DiceCELoss,
        TverskyLoss,
        LabelSmoothingLoss,
        IoULoss,
        WeightedSumLoss,
    )
}


def create_loss(type: str, **options: Any) -> Loss:
    """The loss of that name with these options; its class, in ``LOSSES``, documents them.

    Raises LoupeError for an unknown name, an option that this loss does not have, or a value out of range.

    >>> create_loss("focal", alpha=0.25, gama=2.0)
    Traceback (most recent call last):
    errors.LoupeError: loss 'focal' has no option 'gama' (did you mean 'gamma'?); it has: alpha, gamma, \
normalization, ignore_index, class_weight, multilabel
    """
    if type not in LOSSES:
        raise unknown("loss", type, LOSSES)
    parameters = inspect.signature(LOSSES[type].__init__).parameters
    known = [name for name in parameters if name != "self"]
    for name in options:
        if name not in known:
            near = nearest(name, known)
            hint = f" (did you mean '{near}'?)" if near else ""
            raise LoupeError(f"loss '{type}' has no option '{name}'{hint}; it has: {', '.join(known)}")
    missing = [
        name for name in known if parameters[name].default is inspect.Parameter.empty and name not in options
    ]
    if missing:
        raise LoupeError(f"loss '{type}' needs {', '.join(missing)}")
    return LOSSES[type](**options)
