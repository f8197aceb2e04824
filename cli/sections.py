"""The sections of a config that say how a trained model is used: in every command, and in the saved config."""

import dataclasses
from collections.abc import Mapping
from typing import Any, get_args, get_type_hints

from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from errors import LoupeError
from export import Export
from inference import Calibrate, Inference, Roi
from predictions import Predictions

__all__ = ["SECTIONS", "add_sections", "check_sections", "leave_out_defaults"]

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


def check_sections(config: Mapping[str, Any]) -> None:
    """LoupeError for a null where there is no such choice, and for a setting in a block that is off."""
    for name, section in SECTIONS.items():
        _refuse_nulls(name, config[name], section)
    _refuse_disabled(config)


def _refuse_nulls(key: str, value: Any, kind: type) -> None:
    if value is None:
        raise LoupeError(f"{key} is null; leave it out, or write its settings below it")
    hints = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        inner, hint, path = getattr(value, field.name), hints[field.name], f"{key}.{field.name}"
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            _refuse_nulls(path, inner, hint)
        elif inner is None and type(None) not in get_args(hint):
            default = getattr(kind(), field.name)
            shown = str(default).lower() if isinstance(default, bool) else default
            raise LoupeError(f"{path} is null, and must have a value; leave it out for its default, {shown}")


def _refuse_disabled(config: Mapping[str, Any]) -> None:
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
