"""A box as the readers of formats hand it on, and as columns of samples keep it."""

import math
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from datamodules.images import UnreadableError, image_size_hw
from datamodules.problems import Problems
from datamodules.samples import Samples
from datamodules.workers import usable_cores

__all__ = ["BOX_COLUMNS", "Box", "BoxEntry", "box_of", "boxes_of", "largest", "with_boxes", "within_pictures"]

#: x1, y1, x2, y2 in pixels of the upright picture, x2 and y2 exclusive.
Box = tuple[float, float, float, float]

#: The same four as a file has them, right or not.
BoxEntry = tuple[float, float, float, float]

BOX_COLUMNS = ("x1", "y1", "x2", "y2")


def box_of(samples: Samples, row: int) -> Box | None:
    """The box of one sample, None for a picture without an object."""
    entries = [samples.columns[name][row] for name in BOX_COLUMNS]
    x1, y1, x2, y2 = map(float, entries) if any(entries) else (math.nan,) * 4
    return None if math.isnan(x1) else (x1, y1, x2, y2)


def boxes_of(samples: Samples) -> np.ndarray:
    """The boxes of all samples as (N, 4) float32, NaN where there is no object."""
    columns = [[float(entry or "nan") for entry in samples.columns[name]] for name in BOX_COLUMNS]
    return np.array(columns, dtype=np.float32).T.reshape(-1, 4)


def with_boxes(samples: Samples, boxes: Sequence[Box | None]) -> Samples:
    """The samples with the columns `x1 y1 x2 y2`, empty where there is no object."""
    columns = {
        name: ["" if box is None else f"{box[place]:.10g}" for box in boxes]
        for place, name in enumerate(BOX_COLUMNS)
    }
    return samples.with_columns(**columns)


def largest(boxes: Iterable[Box]) -> Box | None:
    """The box of the largest area, the first of equals; None of none."""
    return max(boxes, key=area, default=None)


def area(box: Box | None) -> float:
    """Square pixels; 0 where there is no box."""
    return 0.0 if box is None else (box[2] - box[0]) * (box[3] - box[1])


def within_pictures(
    samples: Samples, boxes: Sequence[Box | None], problems: Problems, *, skip: bool
) -> tuple[Samples, list[Box | None]]:
    """The samples whose boxes lie in their pictures; `problems` is told of the others.

    Reads the header of each picture with a box. Raises UnreadableError for one that has none, unless `skip` or
    problems are collected.
    """
    lenient = skip or problems.collecting
    with ThreadPoolExecutor(usable_cores()) as pool:
        texts = list(pool.map(partial(_outside, lenient=lenient), samples.paths, boxes))
    wrong = [row for row, text in enumerate(texts) if text]
    if not wrong:
        return samples, list(boxes)
    for row in wrong:
        box = boxes[row]
        problems.add("box outside the picture", texts[row], [samples.paths[row]], boxes=[box] if box else ())
    left = [row for row, text in enumerate(texts) if not text]
    return samples.take(left), [boxes[row] for row in left]


def _outside(path: str, box: Box | None, *, lenient: bool) -> str:
    """What is wrong with the box; empty where nothing is."""
    if box is None:
        return ""
    try:
        height, width = image_size_hw(path)
    except UnreadableError:
        if lenient:
            return ""
        raise
    if box[0] >= 0 and box[1] >= 0 and box[2] <= width and box[3] <= height:
        return ""
    shown = ", ".join(f"{value:g}" for value in box)
    return (
        f"{path} is {width}x{height} (width x height, upright), and its box {shown} (x1, y1, x2, y2) reaches "
        f"beyond it; boxes are pixels after EXIF rotation, x2 and y2 exclusive"
    )
