"""What a checkpoint tells of the model in it, and whether it is the one at hand."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningModule
from torch import Tensor

from errors import LoupeError

__all__ = ["make_card", "refuse_other_classes", "refuse_other_network", "refuse_other_task"]


def make_card(
    module: LightningModule,
    class_names: list[str] | None,
    input_contract: Mapping[str, Any],
    multi_label: bool = False,
) -> dict[str, Any]:
    """All that is needed to use the weights without the data they were trained on, as plain values."""
    return {
        "module": f"{type(module).__module__}.{type(module).__qualname__}",
        "class_names": list(class_names or []),
        "input": dict(input_contract),
        "multi_label": multi_label,
        "precision": str(module.trainer.precision),
    }


def refuse_other_network(own: Mapping[str, Tensor], stored: Mapping[str, Tensor]) -> None:
    """Raise LoupeError with what differs when a checkpoint's weights are those of another network."""
    wrong = [key for key in own if key not in stored or own[key].shape != stored[key].shape]
    wrong += [key for key in stored if key not in own]
    if wrong:
        share = f"{len(wrong)} of {len({*own, *stored})}"
        raise LoupeError(
            f"the checkpoint holds another network: {share} tensors differ, first '{wrong[0]}'; "
            f"use the settings it was trained with (--config RUN/config.yaml)"
        )


def refuse_other_classes(known: list[str], found: list[str]) -> None:
    """Raise LoupeError where the data has other classes than a checkpoint, or another order of them."""
    if found and found != known:
        raise LoupeError(
            f"the checkpoint knows the classes {known}, the data has {found}; "
            f"use data of the same classes, or give data.read.class_names"
        )


def refuse_other_task(module: Any, data: Any) -> None:
    """Raise LoupeError where the datamodule has no answers of the kind that the module learns from."""
    given = getattr(data, "gives", None)
    if given is not None and not set(module.learns) <= set(given):
        raise LoupeError(
            f"model {type(module).__name__} learns from {' and '.join(module.learns)}, and data {type(data).__name__} "
            f"gives {' and '.join(given)}; use a config whose model and data are of one task"
        )
