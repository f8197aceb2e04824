"""Opening a checkpoint: one way, with one set of words for what can be wrong."""

from pathlib import Path
from typing import Any

import torch

from errors import LoupeError

__all__ = ["read_checkpoint"]


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The content of a Loupe checkpoint; tensors stay on the disk until they are used.

    Only tensors and plain values are ever read (``weights_only``). LoupeError for a file that is missing, damaged,
    or of another program.
    """
    path = Path(path)
    if not path.is_file():
        raise LoupeError(f"no checkpoint {path}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises many kinds for a file that is none, or one that is cut short
        raise LoupeError(f"{path} cannot be read: it is not a checkpoint, or it is damaged") from error
    if not isinstance(content, dict) or "loupe" not in content:
        raise LoupeError(
            f"{path} is no Loupe checkpoint; to start from weights of another program use --model.weights FILE"
        )
    return content
