"""What a checkpoint tells of the model in it, and whether it is the one at hand."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningModule
from torch import Tensor

from errors import LoupeError
from lightning_modules.calibration import Calibration

__all__ = ["adopt_card", "classes_of", "make_card", "refuse_other_network"]


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


def adopt_card(module: Any, card: Mapping[str, Any]) -> None:
    """Take classes, input contract and calibration from a checkpoint's card: they win over those of the data."""
    module.class_names = list(card["class_names"])
    module.input_contract = dict(card["input"])
    module.multi_label = bool(card.get("multi_label"))
    module.calibration = Calibration.of_card(card)
    module.restoring = True


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


def classes_of(data: Any, module: Any) -> list[str]:
    """The classes that the module knows from a checkpoint, else those of the data.

    LoupeError where the data is of another task, or has other classes than the checkpoint, or another order of them.
    """
    _refuse_other_task(module, data)
    known, found = module.class_names, list(getattr(data, "class_names", None) or [])
    if known is None:
        return found
    if found and found != known and not module.trainer.predicting:
        raise LoupeError(
            f"the checkpoint knows the classes {known}, the data has {found}; "
            f"use data of the same classes, or give data.read.class_names"
        )
    return known


def _refuse_other_task(module: Any, data: Any) -> None:
    """Raise LoupeError where the datamodule has no answers of the kind that the module learns from."""
    given = getattr(data, "gives", None)
    if given is not None and not set(module.learns) <= set(given):
        raise LoupeError(
            f"model {type(module).__name__} learns from {' and '.join(module.learns)}, and data {type(data).__name__} "
            f"gives {' and '.join(given)}; use a config whose model and data are of one task"
        )
