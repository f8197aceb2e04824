"""Options of a `{type: ..., ...}` block: checked for name and type against what is built from them."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from jsonargparse import ArgumentParser

from cli.messages import setting_error
from errors import LoupeError, unknown
from lightning_modules import LoupeModule
from losses import BOX_LOSSES, LOSSES

__all__ = ["check_loss", "check_typed_block"]


class _OptionParser(ArgumentParser):
    def error(self, message: str, ex: Exception | None = None) -> Any:
        raise setting_error(message) from ex


def check_loss(block: Mapping[str, Any], class_path: str) -> None:
    """Refuse a loss that compares something else than the task has, and options that the loss lacks.

    Args:
        block: `training.loss`.
        class_path: The module class that the config names; the parser has found that it exists.
    """
    package, _, class_name = class_path.rpartition(".")
    module: type[LoupeModule] = getattr(importlib.import_module(package), class_name)
    name = str(block.get("type"))
    if name in {**LOSSES, **BOX_LOSSES} and name not in module.losses:
        raise LoupeError(
            f"training.loss: {name} does not compare what {module.__name__} has, {module.compares}; "
            f"valid: {', '.join(module.losses)}"
        )
    check_typed_block("training.loss", block, module.losses)


def check_typed_block(
    key: str, block: Mapping[str, Any], factories: Mapping[str, Callable[..., Any]]
) -> None:
    """Refuse an unknown type, an option that the type lacks, and a value of the wrong kind.

    Args:
        key: The block's name for messages, ``training.loss``.
        block: ``{"type": name, option: value, ...}``.
        factories: The callable behind each type; its keyword arguments are the options.
    """
    name = str(block.get("type"))
    if name not in factories:
        raise unknown(f"{key} type", name, factories)
    parser = _OptionParser(exit_on_error=False)
    factory = factories[name]
    if isinstance(factory, type):
        added = parser.add_class_arguments(factory, key, fail_untyped=False)
    else:
        added = parser.add_function_arguments(factory, key, fail_untyped=False)
    valid = [option.removeprefix(f"{key}.") for option in added]
    options = {option: value for option, value in block.items() if option not in ("type", "enabled")}
    for option in options:
        if option not in valid:
            if not valid:
                raise LoupeError(f"{key}: '{name}' has no options, got '{option}'")
            raise unknown(f"option of {key} '{name}':", option, valid)
    nested: dict[str, Any] = options
    for part in reversed(key.split(".")):
        nested = {part: nested}
    parser.parse_object(nested)
