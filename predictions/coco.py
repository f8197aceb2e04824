"""Predictions as COCO has them: masks as run lengths, or boxes, with their scores."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from predictions.journal import Record
from predictions.whole_files import whole_file

__all__ = ["box_annotations", "mask_annotations", "run_lengths", "write_coco"]


def mask_annotations(
    mask: np.ndarray, num_classes: int, probs: np.ndarray | None = None
) -> list[dict[str, Any]]:
    """One annotation for each class that a (H, W) uint8 mask holds, the background left out, class 0.

    ``category_id`` is the class number, ``segmentation`` compressed run lengths, ``bbox`` x, y, width and height of
    all its pixels, ``score`` the mean of ``probs`` (K, H, W) over them, 1 without.
    """
    found: list[dict[str, Any]] = []
    areas = np.bincount(mask.ravel(), minlength=256)
    for number in range(1, max(num_classes, 2)):
        if not areas[number]:
            continue
        where = mask == number
        rows, columns = np.flatnonzero(where.any(1)), np.flatnonzero(where.any(0))
        top, left = int(rows[0]), int(columns[0])
        found.append(
            {
                "category_id": number,
                "segmentation": {"size": list(mask.shape), "counts": run_lengths(where)},
                "area": int(areas[number]),
                "bbox": [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1],
                "iscrowd": 0,
                "score": 1.0
                if probs is None
                else round(float(probs[number][where].mean(dtype=np.float64)), 6),
            }
        )
    return found


def box_annotations(box_xyxy_px: Sequence[float], confidence: float) -> list[dict[str, Any]]:
    """The one box of a cropper, and none where it is empty; ``score`` is its confidence."""
    x1, y1, x2, y2 = box_xyxy_px
    width, height = round(x2 - x1, 2), round(y2 - y1, 2)
    if width <= 0 or height <= 0:
        return []
    area = round(width * height, 2)
    box = [x1, y1, width, height]
    return [{"category_id": 1, "bbox": box, "area": area, "iscrowd": 0, "score": confidence}]


def run_lengths(where: np.ndarray) -> str:
    """A (H, W) bool mask as COCO's compressed run lengths.

    Runs of 0 and 1 in turn down the columns, from the third on as the difference to the one before the last, each in
    pieces of 5 bits from the lowest on: bit 5 says that more comes, 48 makes it a letter (pycocotools, maskApi.c,
    rleToString).

    >>> run_lengths(np.array([[0, 1], [1, 1]], bool))  # runs 1, 3
    '13'
    """
    flat = where.T.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(np.concatenate([[0], edges, [flat.size]]))
    if flat[0]:
        runs = np.concatenate([[0], runs])
    left = runs.astype(np.int64)
    left[3:] -= runs[1:-2]
    pieces: list[np.ndarray] = []
    held: list[np.ndarray] = []
    open_ = np.ones(len(left), dtype=bool)
    while open_.any():
        bits = left & 31
        left >>= 5
        more = np.where(bits & 16, left != -1, left != 0)
        pieces.append((bits | np.where(more, 32, 0)) + 48)
        held.append(open_)
        open_ = open_ & more
    letters = np.stack(pieces, axis=1).astype(np.uint8)
    return letters[np.stack(held, axis=1)].tobytes().decode("ascii")


def write_coco(
    file: Path,
    records: Callable[[], Iterator[Record]],
    *,
    root: str,
    categories: Sequence[tuple[int, str]],
    description: str,
) -> None:
    """coco.json: ``images``, ``annotations`` and ``categories``, a line an entry.

    Args:
        file: Where to.
        records: The predictions in their order; asked for twice.
        root: The folder that ``file_name`` counts from where a picture lies in it.
        categories: Number and name.
        description: What made it.
    """
    named = [{"id": number, "name": name, "supercategory": ""} for number, name in categories]
    with whole_file(file) as temporary, temporary.open("w", encoding="utf-8") as opened:
        opened.write(
            f'{{"info": {json.dumps({"description": description})},\n"categories": {json.dumps(named)},\n'
        )
        opened.write('"images": [')
        for number, record in enumerate(records(), 1):
            height, width = record.size_hw_px
            image = {"id": number, "file_name": _below(record.path, root), "width": width, "height": height}
            opened.write(f"{',' if number > 1 else ''}\n{json.dumps(image)}")
        opened.write('],\n"annotations": [')
        count = 0
        for number, record in enumerate(records(), 1):
            for annotation in record.annotations:
                count += 1
                entry = {"id": count, "image_id": number, **annotation}
                opened.write(f"{',' if count > 1 else ''}\n{json.dumps(entry)}")
        opened.write("]}\n")


def _below(path: str, root: str) -> str:
    parts = PurePath(path)
    return parts.relative_to(root).as_posix() if root and parts.is_relative_to(root) else path
