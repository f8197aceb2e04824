"""The box of the object that a mask shows."""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from datamodules.cache import remembered
from datamodules.formats.box import Box
from datamodules.geometry import VOID
from datamodules.mask_readers import MaskValuesReader, Wrong, fingerprint, read_beside
from datamodules.options import BoxRead
from datamodules.pieces import largest_piece
from datamodules.problems import Problems
from datamodules.samples import Samples, name_some
from datamodules.workers import usable_cores

__all__ = ["box_of_mask", "find_boxes_of_masks"]

log = logging.getLogger(__name__)

_FORMAT = 2  # counts up when what is stored changes its meaning


def find_boxes_of_masks(
    samples: Samples, read: BoxRead, problems: Problems
) -> tuple[Samples, Sequence[Box | None]]:
    """The samples and the box of each mask's object; every mask is read once, and remembered until one changes.

    Tells `problems` of a mask that differs in size from its picture, or cannot be read; with `read.on_error=skip` the
    unreadable ones are left out.
    """
    paths, masks = samples.paths, samples.columns["mask"]
    skip = read.on_error == "skip"

    def compute() -> list[list[float] | None]:
        box = partial(_box, read=read, skip=skip, tell=problems.collecting)
        with ThreadPoolExecutor(usable_cores()) as pool:
            found = list(pool.map(box, paths, masks))
        for row, wrong in enumerate(found):
            if isinstance(wrong, tuple):
                problems.add(*wrong, (paths[row], masks[row]))
        return [[] if isinstance(box, tuple) else box for box in found]

    start = f"boxes {_FORMAT} {read.mask_value} {read.mask_object} {skip}"
    key = fingerprint(start, paths, masks, MaskValuesReader())
    boxes = compute() if problems.collecting else remembered("mask_boxes", key, compute)
    unread = [row for row, box in enumerate(boxes) if box == []]
    if unread:
        if not problems.collecting:
            log.warning(
                "data.read.on_error=skip: %s could not be read, and their pictures are left out",
                name_some([masks[row] for row in unread], "mask"),
            )
        left = [row for row, box in enumerate(boxes) if box != []]
        samples, boxes = samples.take(left), [boxes[row] for row in left]
    return samples, [None if box is None else (box[0], box[1], box[2], box[3]) for box in boxes]


def box_of_mask(
    mask: np.ndarray, *, value: int | None = None, largest_only: bool = True
) -> tuple[int, int, int, int] | None:
    """x1, y1, x2, y2 (x2 and y2 exclusive) of the object in (H, W) uint8, None where there is none.

    Args:
        mask: a file's values.
        value: the object's; None: every value but 0, and but 255 where others stand beside it (void).
        largest_only: the box of the largest connected piece (diagonal neighbours count), not of all of them.

    >>> mask = np.zeros((5, 6), np.uint8); mask[1:3, 2:5] = 1; mask[4, 0] = 1
    >>> box_of_mask(mask), box_of_mask(mask, largest_only=False)
    ((2, 1, 5, 3), (0, 1, 5, 5))
    """
    if value is not None:
        inside = mask == value
    else:
        inside = mask != 0
        if ((mask != VOID) & inside).any():
            inside &= mask != VOID
    if largest_only:
        inside = largest_piece(inside)
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if not len(rows):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _box(path: str, file: str, *, read: BoxRead, skip: bool, tell: bool) -> list[float] | Wrong | None:
    """The box, None where there is no object, [] to leave out; or what is wrong with the mask."""
    mask = read_beside(path, file, MaskValuesReader(), skip=skip, tell=tell)
    if mask is None or isinstance(mask, tuple):
        return [] if mask is None else mask
    box = box_of_mask(mask.numpy(), value=read.mask_value, largest_only=read.mask_object == "largest")
    return None if box is None else [float(value) for value in box]
