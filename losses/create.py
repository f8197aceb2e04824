"""Losses by name."""

import inspect
from collections.abc import Mapping
from typing import Any, TypeVar

from errors import LoupeError, nearest, unknown
from losses.box_loss import BoxLoss
from losses.box_overlap import BoxCIoULoss, BoxDIoULoss, BoxGIoULoss, BoxIoULoss
from losses.box_smooth_l1 import BoxSmoothL1Loss
from losses.cross_entropy import CrossEntropyLoss
from losses.dice import DiceLoss
from losses.dice_ce import DiceCELoss
from losses.focal import FocalLoss
from losses.iou import IoULoss
from losses.label_smoothing import LabelSmoothingLoss
from losses.loss import Loss
from losses.tversky import TverskyLoss
from losses.weighted_sum import WeightedSumLoss

__all__ = ["BOX_LOSSES", "LOSSES", "create_box_loss", "create_loss"]

_Built = TypeVar("_Built")

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


BOX_LOSSES: dict[str, type[BoxLoss]] = {
    loss.name: loss for loss in (BoxIoULoss, BoxGIoULoss, BoxDIoULoss, BoxCIoULoss, BoxSmoothL1Loss)
}


def create_loss(type: str, **options: Any) -> Loss:
    """The loss of that name with these options; its class, in ``LOSSES``, documents them.

    Raises LoupeError for an unknown name, an option that this loss does not have, or a value out of range.

    >>> create_loss("focal", alpha=0.25, gama=2.0)
    Traceback (most recent call last):
    errors.LoupeError: loss 'focal' has no option 'gama' (did you mean 'gamma'?); it has: alpha, gamma, \
normalization, ignore_index, class_weight, multilabel
    """
    return _create("loss", LOSSES, type, options)


def create_box_loss(type: str, **options: Any) -> BoxLoss:
    """The box loss of that name with these options; its class, in ``BOX_LOSSES``, documents them.

    Raises LoupeError as ``create_loss`` does.

    >>> create_box_loss("giou", beta=0.1)
    Traceback (most recent call last):
    errors.LoupeError: box loss 'giou' has no option 'beta'; it has: confidence_weight
    """
    return _create("box loss", BOX_LOSSES, type, options)


def _create(what: str, table: Mapping[str, type[_Built]], type: str, options: Mapping[str, Any]) -> _Built:
    if type not in table:
        raise unknown(what, type, table)
    parameters = inspect.signature(table[type].__init__).parameters
    known = [name for name in parameters if name != "self"]
    for name in options:
        if name not in known:
            near = nearest(name, known)
            hint = f" (did you mean '{near}'?)" if near else ""
            raise LoupeError(f"{what} '{type}' has no option '{name}'{hint}; it has: {', '.join(known)}")
    missing = [
        name for name in known if parameters[name].default is inspect.Parameter.empty and name not in options
    ]
    if missing:
        raise LoupeError(f"{what} '{type}' needs {', '.join(missing)}")
    return table[type](**options)
