"""Outlines and run lengths as pixels."""

from collections.abc import Sequence

import numpy as np

__all__ = ["decode_run_lengths", "fill_polygon"]


_MOST_CROSSINGS = 50_000_000  # of edges and rows: no outline comes near, and memory is taken for each


def fill_polygon(canvas: np.ndarray, corners_xy: Sequence[float]) -> None:
    """Sets the pixels of `canvas` (H, W) bool whose middle lies inside the polygon (x0, y0, x1, y1, ...), even-odd.

    Coordinates are continuous: pixel i covers [i, i + 1). The polygon may reach beyond the canvas. Raises ValueError
    for a corner that is no finite number.

    >>> canvas = np.zeros((3, 4), dtype=bool)
    >>> fill_polygon(canvas, [1.0, 1.0, 3.0, 1.0, 3.0, 3.0, 1.0, 3.0])
    >>> canvas.astype(int).tolist()
    [[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0]]
    """
    height, width = canvas.shape
    points = np.asarray(corners_xy, dtype=np.float64).reshape(-1, 2)
    if not np.isfinite(points).all():
        raise ValueError("a corner of a polygon is no finite number")
    x0, y0 = points[:, 0], points[:, 1]
    x1, y1 = np.roll(x0, -1), np.roll(y0, -1)
    # An edge crosses the middles of the rows in [first, last): half open, so that a corner counts once.
    low, high = np.minimum(y0, y1), np.maximum(y0, y1)
    first = np.clip(np.ceil(low - 0.5), 0, height).astype(np.int64)
    last = np.clip(np.ceil(high - 0.5), 0, height).astype(np.int64)
    count = last - first
    if count.sum() > _MOST_CROSSINGS:
        raise ValueError(f"a polygon of {len(points)} corners crosses {count.sum()} rows")
    edge = np.repeat(np.arange(len(points)), count)
    if not len(edge):
        return
    row = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + first[edge]
    share = (row + 0.5 - y0[edge]) / (y1[edge] - y0[edge])
    crossing = x0[edge] + share * (x1[edge] - x0[edge])
    column = np.clip(np.ceil(crossing - 0.5), 0, width).astype(np.int64)
    top, bottom = int(row.min()), int(row.max()) + 1
    toggles = np.zeros((bottom - top, width + 1), dtype=np.int64)
    np.add.at(toggles, (row - top, column), 1)
    canvas[top:bottom] |= (np.cumsum(toggles[:, :-1], axis=1) & 1).astype(bool)


def decode_run_lengths(counts: str | Sequence[int], size_hw: tuple[int, int]) -> np.ndarray:
    """A mask (H, W) bool from COCO's run lengths: zeros first, then ones, column by column.

    A text holds the runs in COCO's compression: characters from 48 carry five bits each, the lowest first, with 32 for
    "more follows"; from the fourth run on, the difference to the run two before. Raises ValueError where the runs do
    not add up to the size.

    >>> decode_run_lengths([1, 2, 1], (2, 2)).astype(int).tolist()
    [[0, 1], [1, 0]]
    """
    runs = _uncompressed(counts) if isinstance(counts, str) else [int(run) for run in counts]
    height, width = size_hw
    if any(run < 0 for run in runs) or sum(runs) != height * width:
        raise ValueError(f"run lengths add up to {sum(runs)}, and the picture has {height} x {width} pixels")
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return flat.reshape(width, height).T


def _uncompressed(text: str) -> list[int]:
    runs: list[int] = []
    value, shift = 0, 0
    for letter in text:
        code = ord(letter) - 48
        if not 0 <= code < 64:
            raise ValueError(f"run lengths hold the letter {letter!r}")
        value |= (code & 31) << shift
        shift += 5
        if shift > 60:  # a number of pixels has at most 60 bits
            raise ValueError("run lengths hold a number without an end")
        if code & 32:
            continue
        if code & 16:
            value |= -1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value, shift = 0, 0
    if shift:
        raise ValueError("run lengths end in the middle of a number")
    return runs
