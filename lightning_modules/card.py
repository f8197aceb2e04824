"""What a checkpoint tells of the model in it, and whether it is the one at hand."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningModule
from torch import Tensor

from errors import LoupeError

__all__ = ["make_card", "refuse_other_network"]


def make_card(
    module: LightningModule, class_names: list[str] | None, input_contract: Mapping[str, Any]
) -> dict[str, Any]:
    """All that is needed to use the weights without the data they were trained on, as plain values."""
    return {
        "module": f"{type(module).__module__}.{type(module).__qualname__}",
        "class_names": list(class_names or []),
        "input": dict(input_contract),
        "precision": str(module.trainer.precision),
    }


def refuse_other_network(own: Mapping[str, Tensor], stored: Mapping[str, Tensor]) -> None:
    """Raise LoupeError with what differs when a checkpoint's weights are those of another network."""
    wrong = [key for key in own if key not in stored or own[key].shape != stored[key].shape]
    wrong += [key for key in stored if key not in own]
    if wrong:
        raise LoupeError(
            f"the checkpoint holds another network: {len(wrong)} of {len(own)} tensors differ, first '{wrong[0]}'; "
            f"use the settings it was trained with (--config RUN/config.yaml)"
        )
