"""Boxes in a manifest: `path,x1,y1,x2,y2`, a row each."""

import math
import os
from pathlib import Path

from datamodules.formats.box import BOX_COLUMNS, Box, area, box_of
from datamodules.formats.manifest import read_manifest
from datamodules.formats.tables import Table
from datamodules.problems import REFUSE, Problems
from datamodules.samples import Samples
from errors import LoupeError

__all__ = ["find_manifest_boxes", "parse_boxes"]


def find_manifest_boxes(
    file: Path, table: Table, problems: Problems = REFUSE, *, outside_root: bool = False
) -> tuple[Samples, list[Box | None]]:
    """One sample a picture, and the largest of its boxes, None where it has none.

    `problems` is told of boxes that are incomplete, no numbers, inverted or empty, naming the picture.
    """
    rows = read_manifest(
        file,
        table=table,
        required=(),
        may_be_empty=BOX_COLUMNS,
        may_repeat=True,
        outside_root=outside_root,
        problems=problems,
    )
    return parse_boxes(str(file), rows, problems)


def parse_boxes(file: str, rows: Samples, problems: Problems) -> tuple[Samples, list[Box | None]]:
    """The same for rows that are read already, a row each box; `file`: for messages."""
    boxes: list[Box | None] = []
    good: list[int] = []
    for row in range(len(rows)):
        box, wrong = _parse(rows, row)
        if wrong:
            kind, text = wrong
            boxes_seen = [_seen(rows, row)] if kind == "inverted box" else []
            message = f"{file}: {rows.names[row]} has the box {text}"
            problems.add(kind, message, [rows.paths[row]], boxes=boxes_seen)
        else:
            good.append(row)
            boxes.append(box)
    rows = rows.take(good) if len(good) < len(rows) else rows
    if any(boxes) and max(max(box) for box in boxes if box) <= 1:
        raise LoupeError(f"{file}: all boxes lie within 0..1, like shares of the picture; boxes are pixels")
    chosen = _largest(file, rows, boxes)
    return rows.take(chosen), [boxes[row] for row in chosen]


def _parse(rows: Samples, row: int) -> tuple[Box | None, tuple[str, str] | None]:
    """The box, and the kind and the text of what is wrong with it."""
    entries = {name: rows.columns[name][row] for name in BOX_COLUMNS}
    given = [name for name, entry in entries.items() if entry]
    if not given:
        return None, None
    shown = ", ".join(f"{name} {entry or '(empty)'}" for name, entry in entries.items())
    if len(given) < len(BOX_COLUMNS):
        return None, (
            "incomplete box", f"{shown}; give all four, or none for a picture without an object"
        )  # fmt: skip
    try:
        box = box_of(rows, row)
    except ValueError:
        box = None
    if box is None or not all(map(math.isfinite, box)):
        return None, ("box without numbers", f"{shown}; they must be numbers of pixels")
    if box[2] <= box[0] or box[3] <= box[1]:
        text = f"{shown}, which is empty or inverted; x1 < x2 and y1 < y2 (x2 and y2 exclusive)"
        return None, ("inverted box", text)
    return box, None


def _seen(rows: Samples, row: int) -> Box:
    x1, y1, x2, y2 = (float(rows.columns[name][row]) for name in BOX_COLUMNS)
    return x1, y1, x2, y2


def _largest(file: str, rows: Samples, boxes: list[Box | None]) -> list[int]:
    """The row of the largest box of each picture, in the order of first mention; the first of equals."""
    chosen: dict[str, int] = {}
    folders: dict[str, str] = {}
    for row, path in enumerate(rows.paths):
        folder, _, name = path.rpartition("/")
        if folder not in folders:
            folders[folder] = os.path.realpath(folder)
        key = f"{folders[folder]}/{name}"
        if key not in chosen:
            chosen[key] = row
            continue
        first = chosen[key]
        if rows.parts[row] != rows.parts[first]:
            raise LoupeError(
                f"{file} has {rows.names[row]} in {rows.parts[first]} and in {rows.parts[row]}; keep it in one part"
            )
        if area(boxes[row]) > area(boxes[first]):
            chosen[key] = row
    return list(chosen.values())
