"""Finding pictures and the box of the object in each, in a manifest."""

import math
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from datamodules.images import UnreadableError, image_size_hw
from datamodules.samples import Samples, does_not_exist, name_some, read_manifest
from datamodules.tables import find_table
from datamodules.workers import usable_cores
from errors import LoupeError

__all__ = ["BOX_COLUMNS", "Box", "box_of", "find_box_samples"]

#: x1, y1, x2, y2 in pixels of the upright picture, x2 and y2 exclusive.
Box = tuple[float, float, float, float]

BOX_COLUMNS = ("x1", "y1", "x2", "y2")


def find_box_samples(root: Path, *, skip: bool = False) -> Samples:
    """Samples with the columns `x1 y1 x2 y2`, one a picture: the largest of its boxes, empty where it has none.

    Raises LoupeError naming the picture for a box that is incomplete, inverted, empty, or not inside it. With `skip`
    pictures that cannot be read are let through.
    """
    file = find_table(root, "path,x1,y1,x2,y2[,split]")
    if file is None:
        if not root.is_dir():
            raise does_not_exist("data.root", root)
        inside = name_some(sorted(entry.name for entry in root.iterdir())) or "nothing"
        raise LoupeError(
            f"data.root {root} has no manifest.csv (columns path,x1,y1,x2,y2[,split]); it holds {inside}"
        )
    rows = read_manifest(file, required=(), may_be_empty=BOX_COLUMNS, may_repeat=True)
    boxes = [_parse(file, rows, row) for row in range(len(rows))]
    if any(boxes) and max(max(box) for box in boxes if box) <= 1:
        raise LoupeError(f"{file}: all boxes lie within 0..1, like shares of the picture; boxes are pixels")
    chosen = _largest(file, rows, boxes)
    samples = rows.take(chosen)
    with ThreadPoolExecutor(usable_cores()) as pool:
        list(pool.map(partial(_refuse_outside, skip=skip), samples.paths, [boxes[row] for row in chosen]))
    return samples


def box_of(samples: Samples, row: int) -> Box | None:
    """The box of one sample, None for a picture without an object."""
    entries = [samples.columns[name][row] for name in BOX_COLUMNS]
    x1, y1, x2, y2 = map(float, entries) if any(entries) else (math.nan,) * 4
    return None if math.isnan(x1) else (x1, y1, x2, y2)


def _parse(file: Path, rows: Samples, row: int) -> Box | None:
    entries = {name: rows.columns[name][row] for name in BOX_COLUMNS}
    given = [name for name, entry in entries.items() if entry]
    shown = ", ".join(f"{name} {entry or '(empty)'}" for name, entry in entries.items())
    where = f"{file}: {rows.names[row]} has the box {shown}"
    if not given:
        return None
    if len(given) < len(BOX_COLUMNS):
        raise LoupeError(f"{where}; give all four, or none for a picture without an object")
    try:
        box = box_of(rows, row)
    except ValueError:
        box = None
    if box is None or not all(map(math.isfinite, box)):
        raise LoupeError(f"{where}; they must be numbers of pixels")
    if box[2] <= box[0] or box[3] <= box[1]:
        raise LoupeError(f"{where}, which is empty or inverted; x1 < x2 and y1 < y2 (x2 and y2 exclusive)")
    return box


def _largest(file: Path, rows: Samples, boxes: list[Box | None]) -> list[int]:
    """The row of the largest box of each picture, in the order of first mention; the first of equals."""
    chosen: dict[Path, int] = {}
    for row, path in enumerate(rows.paths):
        key = Path(path).resolve()
        if key not in chosen:
            chosen[key] = row
            continue
        first = chosen[key]
        if rows.parts[row] != rows.parts[first]:
            raise LoupeError(
                f"{file} has {rows.names[row]} in {rows.parts[first]} and in {rows.parts[row]}; keep it in one part"
            )
        if _area(boxes[row]) > _area(boxes[first]):
            chosen[key] = row
    return list(chosen.values())


def _area(box: Box | None) -> float:
    return 0.0 if box is None else (box[2] - box[0]) * (box[3] - box[1])


def _refuse_outside(path: str, box: Box | None, *, skip: bool) -> None:
    if box is None:
        return
    try:
        height, width = image_size_hw(path)
    except UnreadableError:
        if skip:
            return
        raise
    if box[0] < 0 or box[1] < 0 or box[2] > width or box[3] > height:
        shown = ", ".join(f"{value:g}" for value in box)
        raise LoupeError(
            f"{path} is {width}x{height} (width x height, upright), and its box {shown} (x1, y1, x2, y2) reaches "
            f"beyond it; boxes are pixels after EXIF rotation, x2 and y2 exclusive"
        )
