"""The loss that a recipe names, as the data at hand needs it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from errors import LoupeError
from losses import ClassCounts, with_class_weights

__all__ = ["DataFacts", "create_criterion"]


@dataclass(frozen=True)
class DataFacts:
    """What a loss must know of the data.

    Attributes:
        ignore_index: The target of positions without a label; None: there are none.
        class_counts: Asked where a class weight is to be worked out.
        multi_label: Whether a picture may have several labels, or none.
        mixes_labels: Whether labels come as probabilities in training.
    """

    ignore_index: int | None = None
    class_counts: ClassCounts = lambda: None
    multi_label: bool = False
    mixes_labels: bool = False

    @classmethod
    def of(cls, data: Any, *, learns: tuple[str, ...], knows_void: bool) -> "DataFacts":
        """Those of a datamodule, for a task that reads ``learns`` of a batch."""
        return cls(
            ignore_index=getattr(data, "ignore_index", None) if knows_void else None,
            class_counts=data.class_counts,
            multi_label=bool(getattr(data, "multi_label", False)),
            mixes_labels=bool(getattr(data, "mixes", False)) and "label" in learns,
        )


def create_criterion(
    create: Callable[..., nn.Module], options: Mapping[str, Any], facts: DataFacts
) -> nn.Module:
    """The loss of the block `training.loss`; LoupeError where it does not go with the data.

    Args:
        create: The task's losses by name.
        options: The block.
        facts: Of the data.
    """
    name, given = options.get("type"), options.get("multilabel")
    if given is not None and bool(given) != facts.multi_label:
        has = "any number of labels" if facts.multi_label else "one label"
        raise LoupeError(
            f"training.loss.multilabel is {str(given).lower()}, and each picture has {has}; leave it out"
        )
    shared: dict[str, Any] = {} if facts.ignore_index is None else {"ignore_index": facts.ignore_index}
    if facts.multi_label:
        shared["multilabel"] = True
    criterion = create(**shared | with_class_weights(options, facts.class_counts))
    if facts.mixes_labels and not getattr(criterion, "probabilities", False):
        raise LoupeError(
            f"data.augment mixes pictures (mixup, cutmix) and so makes class probabilities, which training.loss {name} "
            "does not take; use categorical_crossentropy, label_smoothing or focal"
        )
    return criterion
