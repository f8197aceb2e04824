"""The precision that losses compute in."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

__all__ = ["autocast_off"]


def autocast_off(device_type: str) -> AbstractContextManager[Any]:
    """No autocast on this kind of device."""
    # is_autocast_available() would ask the same, but breaks the compiled graph on torch 2.8.
    if device_type != "meta":
        return torch.autocast(device_type, enabled=False)
    return nullcontext()
