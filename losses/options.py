"""Checks of the values that a loss is built with; an error names the option and says what is valid."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from errors import LoupeError, unknown

__all__ = ["choice", "flag", "integer", "number", "vector"]


def number(name: str, value: Any, low: float = 0.0, high: float = math.inf, *, above: bool = False) -> float:
    """``value`` as a finite float in ``low..high``; ``above`` excludes ``low`` itself."""
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not good or value < low or value > high or (above and value == low):
        if math.isinf(high):
            valid = f"a number above {low:g}" if above else f"a number of at least {low:g}"
        else:
            valid = f"a number from {low:g} to {high:g}"
        raise LoupeError(f"{name} is {value!r}; valid: {valid}")
    return float(value)


def flag(name: str, value: Any) -> bool:
    """``value`` if it is true or false."""
    if not isinstance(value, bool):
        raise LoupeError(f"{name} is {value!r}; valid: true or false")
    return value


def integer(name: str, value: Any) -> int | None:
    """``value`` if it is an integer or None."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise LoupeError(f"{name} is {value!r}; valid: an integer or null")
    if value is not None and not -(2**62) < value < 2**63:
        raise LoupeError(f"{name} is {value}; valid: what a 64-bit integer holds")
    return value


def choice(name: str, value: Any, choices: Sequence[str]) -> Any:
    """``value`` if it is one of ``choices``."""
    if value not in choices:
        raise unknown(name, value, choices)
    return value


def vector(name: str, values: Any) -> Tensor | None:
    """A list or tensor of numbers of at least 0, not all 0, as a float64 tensor; None stays None."""
    if values is None:
        return None
    if isinstance(values, Tensor):
        values = values.detach().cpu().tolist()
    if values in ("balanced", "effective_number"):
        raise LoupeError(
            f"{name} {values} is worked out from the training data, which a loss does not see; "
            f"give losses.class_weights(counts, '{values}')"
        )
    if not isinstance(values, (list, tuple)) or not values:
        raise LoupeError(f"{name} is {values!r}; valid: a list with one number for each class")
    checked = [number(f"{name}[{i}]", value) for i, value in enumerate(values)]
    if not any(checked):
        raise LoupeError(f"{name} is {values!r}: at least one class needs a weight above 0")
    return torch.tensor(checked, dtype=torch.float64)
