"""Opening a checkpoint: one way, with one set of words for what can be wrong."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from errors import LoupeError

__all__ = ["read_checkpoint"]


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The content of a Loupe checkpoint; tensors stay on the disk until they are used.

    Only tensors and plain values are ever read (``weights_only``), and only from a file whose checksums hold: the
    CRC-32 that each entry of the archive carries. LoupeError for a file that is missing, damaged, of another program,
    or whose content is not what Loupe writes.
    """
    path = Path(path)
    if not path.is_file():
        raise LoupeError(f"no checkpoint {path}")
    content: Any = None
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is None:
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (
        Exception
    ) as error:  # zipfile and torch raise many kinds for a file that is none, or one that is cut short
        raise LoupeError(f"{path} cannot be read: it is not a checkpoint, or it is damaged") from error
    if damaged is not None:
        raise LoupeError(f"{path} is damaged: the checksum of {damaged} does not hold")
    if not isinstance(content, dict) or "loupe" not in content:
        raise LoupeError(
            f"{path} is no Loupe checkpoint; to start from weights of another program use --model.weights FILE"
        )
    wrong = _wrong(content)
    if wrong:
        raise LoupeError(f"{path} does not hold what Loupe writes: {wrong}")
    return content


def _wrong(content: Mapping[str, Any]) -> str:
    """The first thing in a checkpoint that is not as Loupe writes it, "" where all is."""
    card, state = content["loupe"], content.get("state_dict")
    if not isinstance(state, Mapping) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    ):
        return "state_dict is no mapping of names to tensors"
    for key in ("epoch", "global_step"):
        if type(content.get(key)) is not int or content[key] < 0:
            return f"{key} is {content.get(key)!r}"
    if not isinstance(card, Mapping):
        return "its card is no mapping"
    names, contract = card.get("class_names"), card.get("input")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return "class_names is no list of texts"
    if not isinstance(card.get("module"), str) or not isinstance(card.get("precision", ""), str):
        return "its card names no module"
    size = contract.get("image_size") if isinstance(contract, Mapping) else None
    if (
        not isinstance(size, list | tuple)
        or len(size) != 2
        or not all(type(n) is int and n > 0 for n in size)
    ):
        return f"image_size is {size!r}"
    assert isinstance(contract, Mapping)
    if type(contract.get("in_channels")) is not int or not isinstance(contract.get("resize"), str):
        return "its input contract is incomplete"
    return ""
