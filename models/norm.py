"""Norms by name, for networks that are built here."""

import math

from torch import nn

from errors import LoupeError

__all__ = ["create_norm"]


def create_norm(norm: str, channels: int, *, option: str) -> nn.Module:
    """Batch norm, or group norm with up to 32 groups; LoupeError names the ``option`` for any other name."""
    match norm:
        case "batch":
            return nn.BatchNorm2d(channels)
        case "group":
            return nn.GroupNorm(math.gcd(32, channels), channels)
        case _:
            raise LoupeError(f"{option} is 'batch' or 'group', got '{norm}'")
