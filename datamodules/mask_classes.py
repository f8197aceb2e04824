"""What the mask files hold, and which class each value stands for."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.cache import remembered
from datamodules.geometry import VOID
from datamodules.mask_readers import MaskReader, Wrong, fingerprint, read_beside
from datamodules.options import MaskRead
from datamodules.problems import REFUSE, Problems
from datamodules.samples import Samples
from datamodules.workers import usable_cores
from errors import LoupeError

__all__ = ["MaskValues", "add_values", "scan_masks", "value_to_class"]

_AT_A_TIME = 1024
_FORMAT = 2  # counts up when what is stored changes its meaning


@dataclass(frozen=True)
class MaskValues:
    """The values of all mask files.

    Args:
        pixels: value -> number of pixels.
        examples: value -> one file that has it.
    """

    pixels: dict[int, int]
    examples: dict[int, str]


def scan_masks(
    samples: Samples, reader: MaskReader, *, skip: bool = False, problems: Problems = REFUSE
) -> MaskValues:
    """Reads every mask once and every picture's header, remembered in the cache folder until a file changes.

    Tells `problems` of a mask that differs in size from its picture, or holds what is no class. Raises LoupeError for
    unreadable files; with `skip`, or where problems are collected, these count for nothing.
    """
    paths, masks = samples.paths, samples.columns["mask"]

    def compute() -> dict[str, Any]:
        count = partial(_count_values, reader=reader, skip=skip, tell=problems.collecting)
        total = np.zeros(256, dtype=np.int64)
        first: dict[int, str] = {}  # a mask that has the value
        pairs = zip(paths, masks, strict=True)
        with ThreadPoolExecutor(usable_cores()) as pool:
            # some at a time: what is known of a million masks would take gigabytes
            while some := list(islice(pairs, _AT_A_TIME)):
                for (path, mask), found in zip(some, pool.map(count, *zip(*some, strict=True)), strict=True):
                    if isinstance(found, tuple):
                        problems.add(*found, (path, *reader.files(mask)))
                        continue
                    new = (found > 0) & (total == 0)
                    if new.any():
                        first |= dict.fromkeys(np.flatnonzero(new).tolist(), reader.title(mask))
                    total += found
        present = sorted(first)
        return {
            "pixels": [[value, int(total[value])] for value in present],
            "examples": [first[value] for value in present],
        }

    key = fingerprint(f"masks {_FORMAT}{' skip' if skip else ''}", paths, masks, reader)
    found = compute() if problems.collecting else remembered("masks", key, compute)
    pixels = {int(value): int(count) for value, count in found["pixels"]}
    return MaskValues(pixels, dict(zip(pixels, found["examples"], strict=True)))


def add_values(counted: Sequence[MaskValues]) -> MaskValues:
    """The values of several sets of masks together."""
    pixels: dict[int, int] = {}
    examples: dict[int, str] = {}
    for values in counted:
        for value, count in values.pixels.items():
            pixels[value] = pixels.get(value, 0) + count
            examples.setdefault(value, values.examples[value])
    return MaskValues(dict(sorted(pixels.items())), examples)


def value_to_class(values: MaskValues, read: MaskRead) -> tuple[Tensor, int]:
    """A table (256,) uint8 from file value to class, 255 for void, and the number of classes.

    `{0, 255}` is a binary mask; `0..K-1` are K classes, with 255 as void beside them; a `label_mapping` decides
    everything else. Raises LoupeError where the values have no certain meaning.
    """
    names = read.class_names
    if names is not None and (not names or len(set(names)) < len(names)):
        raise LoupeError(f"data.read.class_names must be different names; got {names}")
    present = set(values.pixels)
    if read.label_mapping is not None:
        mapping = _checked_mapping(values, read)
    else:
        present.discard(-1 if read.ignore_index is None else read.ignore_index)
        if present <= {0, 255} and 255 in present:
            if names is not None and len(names) != 2:
                raise LoupeError(
                    f"masks hold 0 and 255, which are two classes; data.read.class_names has {len(names)}"
                )
            mapping = {0: 0, 255: 1}
        else:
            mapping = {value: value for value in present - {VOID}}
            _refuse_gaps(mapping, values, read)

    classes = {label for label in mapping.values() if label != VOID}
    num_classes = len(names) if names is not None else max(classes, default=-1) + 1
    if max(classes, default=0) >= num_classes > 0:
        beyond = [value for value, label in mapping.items() if label == max(classes)]
        raise LoupeError(
            f"masks hold class {max(classes)}{_pixels(values, beyond)}, as in {_example(values, beyond)}; "
            f"data.read.class_names has {num_classes} names, so classes go to {num_classes - 1}"
        )
    if num_classes < 2:
        raise LoupeError(
            f"the masks hold {_listed(values)} and so a single class; nothing can be learnt from them "
            f"(data.read.class_names names more classes)"
        )
    table = torch.full((256,), VOID, dtype=torch.uint8)
    for value, label in mapping.items():
        table[value] = label
    return table, num_classes


def _checked_mapping(values: MaskValues, read: MaskRead) -> dict[int, int]:
    mapping = {int(value): int(label) for value, label in (read.label_mapping or {}).items()}
    if read.ignore_index is not None:
        mapping.setdefault(read.ignore_index, VOID)
    wrong = {
        value: label for value, label in mapping.items() if not (0 <= value <= 255 and 0 <= label <= VOID)
    }
    if wrong:
        raise LoupeError(
            f"data.read.label_mapping maps values 0..255 to classes 0..254 or 255 (void); got {wrong}"
        )
    left = sorted(set(values.pixels) - set(mapping))
    if left:
        raise LoupeError(
            f"data.read.label_mapping lacks {_some(left)}{_pixels(values, left)}, as in {values.examples[left[0]]}; "
            f"map each to a class, or to 255 for void"
        )
    return mapping


def _refuse_gaps(mapping: dict[int, int], values: MaskValues, read: MaskRead) -> None:
    found = sorted(mapping)
    if found == list(range(len(found))) or (
        read.class_names is not None and found[-1] < len(read.class_names)
    ):
        return
    if len(found) <= 20:
        proposal = ", ".join(f"{value}: {label}" for label, value in enumerate(found))
        fix = f"say what they mean, for example data.read.label_mapping: {{{proposal}}}"
    else:
        fix = "a mask saved as JPEG looks like this; save it as PNG, or give data.read.label_mapping"
    raise LoupeError(
        f"mask values {_listed(values)} are neither 0 and 255 nor classes 0, 1, 2, ... without a gap "
        f"({found[-1]} is in {values.examples[found[-1]]}); {fix}"
    )


def _pixels(values: MaskValues, some: list[int]) -> str:
    count = sum(values.pixels.get(value, 0) for value in some)
    return f" ({count} pixels)" if count else ""


def _example(values: MaskValues, some: list[int]) -> str:
    """A file with one of these values."""
    found = [values.examples[value] for value in some if value in values.examples]
    return found[0] if found else "the label_mapping"


def _listed(values: MaskValues) -> str:
    return _some(sorted(values.pixels))


def _some(values: list[int]) -> str:
    return ", ".join(map(str, values[:12])) + (f", ... ({len(values)} values)" if len(values) > 12 else "")


def _count_values(path: str, mask: str, *, reader: MaskReader, skip: bool, tell: bool) -> np.ndarray | Wrong:
    """Pixels of each value, or what is wrong with the mask; zeros for what is left out."""
    values = read_beside(path, mask, reader, skip=skip, tell=tell)
    if isinstance(values, tuple):
        return values
    return np.bincount([] if values is None else values.numpy().ravel(), minlength=256)
