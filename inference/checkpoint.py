"""Opening a checkpoint: one way, with one set of words for what can be wrong."""

import hashlib
import math
import zipfile
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from errors import LoupeError
from inference.calibration_check import wrong_calibration

__all__ = ["CROPPER", "file_fingerprint", "not_as_written", "read_checkpoint", "taking_over"]

#: Who writes a cropper's checkpoint.
CROPPER = "lightning_modules.cropping.CropModule"

_MOST_VALUES = 1_000_000
_DEEPEST = 60

#: What Lightning (2.6) counts in its loops.
_COUNTS = ("ready", "started", "processed", "completed", "is_last_batch", "_batches_that_stepped")


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
    except Exception as error:  # zipfile and torch raise many kinds for a file that is none, or is cut short
        raise LoupeError(f"{path} cannot be read: it is not a checkpoint, or it is damaged") from error
    if damaged is not None:
        raise LoupeError(f"{path} is damaged: the checksum of {damaged} does not hold")
    if not isinstance(content, dict) or "loupe" not in content:
        raise LoupeError(
            f"{path} is no Loupe checkpoint; to start from weights of another program use --model.weights FILE"
        )
    with taking_over(path):  # a text of a value may be as much as it likes to be
        wrong = _wrong(content) if _is_bounded(content) else "it is nested without end"
    if wrong:
        raise LoupeError(f"{path} does not hold what Loupe writes: {wrong}")
    return content


def file_fingerprint(path: str | Path) -> str:
    """Equal for checkpoints of equal content: of the names, lengths and CRC-32 of the entries of the archive."""
    if not Path(path).is_file():
        raise LoupeError(f"no checkpoint {path}")
    try:
        with zipfile.ZipFile(path) as archive:
            entries = sorted((e.filename.partition("/")[2], e.file_size, e.CRC) for e in archive.infolist())
    except (OSError, zipfile.BadZipFile) as error:
        raise LoupeError(f"{path} cannot be read: it is not a checkpoint, or it is damaged") from error
    return hashlib.sha256(repr(entries).encode()).hexdigest()


def not_as_written(path: str | Path, error: Exception) -> LoupeError:
    """The error for a checkpoint whose content cannot be taken over, by what was raised then."""
    first = next(iter(str(error).strip().splitlines()), "")
    return LoupeError(f"{path} does not hold what Loupe writes: {type(error).__name__}: {first[:300]}")


@contextmanager
def taking_over(path: str | Path) -> Generator[None]:
    """Tell what goes wrong while a model is made from a checkpoint's content as a LoupeError."""
    try:
        yield
    except (LoupeError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # a wrong value may be met anywhere, and raise anything
        raise not_as_written(path, error) from error


def _wrong(content: Mapping[str, Any]) -> str:
    """The first thing in a checkpoint that is not as Loupe writes it, "" where all is."""
    for key in ("epoch", "global_step"):
        if type(content.get(key)) is not int or content[key] < 0:
            return f"{key} is {content.get(key)!r}"
    if not _has_counts_only(content.get("loops")):
        return "loops holds something else than counts"
    wrong = _wrong_model(content, content["loupe"])
    return wrong or _wrong_roi(content.get("roi"))


def _wrong_roi(kept: Any) -> str:
    """The same of the cropper that a model was trained behind, as `inference.roi` keeps it; None: there was none."""
    if kept is None:
        return ""
    if not isinstance(kept, Mapping):
        return "roi is no mapping"
    for key, highest in (("threshold", 1), ("margin", math.inf)):
        if type(kept.get(key)) not in (int, float) or not 0 <= kept[key] <= highest:
            return f"roi: {key} is {kept.get(key)!r}"
    if not isinstance(kept.get("source"), str):
        return f"roi: source is {kept.get('source')!r}"
    wrong = _wrong_model(kept, kept.get("card"))
    if not wrong and kept["card"]["module"] != CROPPER:
        wrong = f"it was written by {kept['card']['module']}"
    return f"roi: {wrong}" if wrong else ""


def _wrong_model(content: Mapping[str, Any], card: Any) -> str:
    """The same of weights, arguments and card."""
    state = content.get("state_dict")
    if not isinstance(state, Mapping) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    ):
        return "state_dict is no mapping of names to tensors"
    given = content.get("hyper_parameters")
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        return "hyper_parameters is no mapping of names to values"
    if not isinstance(card, Mapping):
        return "its card is no mapping"
    names, contract = card.get("class_names"), card.get("input")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return "class_names is no list of texts"
    if not isinstance(card.get("module"), str) or not isinstance(card.get("precision", ""), str):
        return "its card names no module"
    if type(card.get("multi_label", False)) is not bool:
        return f"multi_label is {card['multi_label']!r}"
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
    values = contract.get("value_range")
    if not isinstance(contract.get("interpolation", ""), str) or not (values is None or _is_pair(values)):
        return "its input contract has values of other types"
    return wrong_calibration(card, cropper=card["module"] == CROPPER)


def _is_bounded(content: Any) -> bool:
    """Whether the content is at most 60 levels deep, and holds at most a million values.

    A value that stands in several places counts as often: a file of a kilobyte may hold a mapping that contains
    itself, or one of 2^60 values, over which whoever looks at all of them never comes to an end.
    """
    level: list[Any] = [content]
    for _ in range(_DEEPEST):
        level = list(islice(chain.from_iterable(map(_inside, level)), _MOST_VALUES + 1))
        if not level or len(level) > _MOST_VALUES:
            break
    return not level


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, Mapping):
        return chain(value.keys(), value.values())
    return value if isinstance(value, list | tuple | set | frozenset) else ()


def _has_counts_only(loops: Any) -> bool:
    """Whether this is a mapping of mappings, and in the end of whole numbers from 0 where Lightning has counts."""
    if not isinstance(loops, Mapping):
        return False
    for key, value in loops.items():
        if key == "combined_loader":
            continue  # what a user's own loader keeps; it is handed to nobody else
        if isinstance(value, Mapping):
            if (
                key in _COUNTS
                or not (value or str(key).endswith("state_dict"))
                or not _has_counts_only(value)
            ):
                return False
        elif key not in _COUNTS or not isinstance(value, int) or value < 0:
            return False
    return True


def _is_pair(values: Any) -> bool:
    """Whether these are two plain numbers."""
    return (
        isinstance(values, list | tuple) and len(values) == 2 and all(type(x) in (int, float) for x in values)
    )
