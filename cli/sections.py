"""The sections of a config that say how a trained model is used: in every command, and in the saved config."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from errors import LoupeError
from export import Export
from inference import Calibrate, Inference, Roi
from predictions import Predictions

__all__ = ["SECTIONS", "add_sections", "leave_out_defaults", "refuse_disabled"]

SECTIONS: dict[str, type] = {
    "roi": Roi,
    "inference": Inference,
    "predictions": Predictions,
    "calibration": Calibrate,
    "export": Export,
}


def add_sections(parser: LightningArgumentParser) -> None:
    """Add them all: a config may be written once for `fit` and for what comes after."""
    for name, section in SECTIONS.items():
        parser.add_class_arguments(section, name)


def leave_out_defaults(config: Namespace) -> None:
    """Take out each section in which nothing was set: a saved config is to be read."""
    for name, section in SECTIONS.items():
        given = config.get(name)
        if given is not None and _plain(given) == _plain(section()):
            config.pop(name)


def refuse_disabled(config: Mapping[str, Any]) -> None:
    """LoupeError for a setting in a block of these sections that is off, where it would have no effect."""
    for name in SECTIONS:
        for block in dataclasses.fields(config[name]):
            value = getattr(config[name], block.name)
            if not dataclasses.is_dataclass(value) or getattr(value, "enabled", True):
                continue
            for field in dataclasses.fields(value):
                default = getattr(type(value)(), field.name)
                if getattr(value, field.name) != default:
                    key = f"{name}.{block.name}"
                    raise LoupeError(
                        f"{key}.{field.name} is set, but {key} is off, so it would have no effect; "
                        f"add {key}.enabled=true or remove {key}.{field.name}"
                    )


def _plain(value: Any) -> Any:
    if isinstance(value, Namespace) or hasattr(value, "__dataclass_fields__"):
        value = vars(value)
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value
