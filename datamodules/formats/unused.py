"""Settings of reading that a layout has no use for."""

from dataclasses import fields
from typing import Any

from errors import LoupeError

__all__ = ["refuse_unused"]


def refuse_unused(read: Any, names: tuple[str, ...], layout: str) -> None:
    """LoupeError where one of these settings is not at its default: it would have no effect."""
    defaults = {field.name: field.default for field in fields(read)}
    for name in names:
        if getattr(read, name) != defaults[name]:
            raise LoupeError(
                f"data.read.{name} is '{getattr(read, name)}', which {layout} has no use for; leave it out"
            )
