"""The demo data: one textured shape on a cluttered background, as real files in the layouts that users have."""

import csv
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import repeat
from pathlib import Path

import numpy as np
from PIL import Image

from datamodules.cache import cache_folder
from datamodules.drawing import SHAPES, draw_sample
from datamodules.samples import PARTS
from datamodules.workers import usable_cores
from errors import LoupeError

__all__ = ["SHAPES", "ensure_shapes"]

_NAME = "shapes-v2"  # counts up when the pictures change
_SIZE = 96
_SEED = 20240607
_COUNTS = {"train": 4800, "val": 300, "test": 300}
_WITH_MASK = {"train": 160, "val": 60, "test": 60}
_EMPTY = {"train": 480, "val": 30, "test": 30}
_PALETTE = [0, 0, 0, 230, 159, 0]  # background black, shape orange


def ensure_shapes(cache: Path | None = None) -> Path:
    """The folder of the demo data, written on the first call (some seconds) and found afterwards.

    `{train,val,test}/images` and `/masks` hold the pictures that have a mask, `{train,val,test}/more` the others, and
    `{train,val,test}/empty` those without a shape. `labels.csv` (path,label,split) lists all that have a shape,
    `boxes.csv` (path,x1,y1,x2,y2,split) the empty ones, too. Masks are 1 on the visible part of the shape and 0
    elsewhere; boxes are its pixels, x2 and y2 exclusive; labels are `SHAPES`.

    It is written under a temporary name and renamed, so several processes may come at once and a killed one leaves
    nothing half-made. Raises LoupeError where the cache folder cannot be written.
    """
    cache = cache_folder() if cache is None else cache
    folder = cache / _NAME
    if folder.is_dir():
        return folder
    try:
        cache.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f"{_NAME}.", suffix=".part", dir=cache))
        try:
            _write(draft)
            draft.chmod(0o755)
            try:
                draft.rename(folder)
            except OSError:
                if not folder.is_dir():  # else another process was faster, with the same files
                    raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        raise LoupeError(
            f"cannot write the demo data to {cache}: {error.strerror or error}; set the environment variable "
            f"LOUPE_CACHE to a folder that can be written"
        ) from error
    return folder


def _write(folder: Path) -> None:
    labels: list[list[object]] = []
    boxes: list[list[object]] = []
    # Drawing is arithmetic of NumPy and Pillow, during which other threads run.
    with ThreadPoolExecutor(usable_cores()) as pool:
        for number, part in enumerate(PARTS):
            for name in ("images", "masks", "more", "empty"):
                (folder / part / name).mkdir(parents=True)
            kinds = np.random.default_rng([_SEED, number]).permutation(_COUNTS[part]) % len(SHAPES)
            drawn = pool.map(partial(_draw, folder, number), range(_COUNTS[part]), kinds.tolist())
            for (path, box), kind in zip(drawn, kinds.tolist(), strict=True):
                labels.append([path, SHAPES[kind], part])
                boxes.append([path, *box, part])
            empty = range(_COUNTS[part], _COUNTS[part] + _EMPTY[part])
            boxes += [
                [path, *box, part]
                for path, box in pool.map(partial(_draw, folder, number), empty, repeat(None))
            ]
    _write_csv(folder / "labels.csv", ["path", "label", "split"], labels)
    _write_csv(folder / "boxes.csv", ["path", "x1", "y1", "x2", "y2", "split"], boxes)


def _draw(folder: Path, number: int, index: int, kind: int | None) -> tuple[str, list[object]]:
    """Draw and save the picture `index` of a part; its path below `folder`, and the fields of its box."""
    part = PARTS[number]
    picture, mask = draw_sample(np.random.default_rng([_SEED, number, index]), kind, _SIZE)
    has_mask = index < _WITH_MASK[part]
    group = "empty" if kind is None else "images" if has_mask else "more"
    path = f"{part}/{group}/{index:04d}.{'png' if index % 4 == 3 else 'jpg'}"
    _save(picture, folder / path)
    if has_mask:
        _save_mask(mask, folder / part / "masks" / f"{index:04d}.png")
    if kind is None:
        return path, [""] * 4
    y, x = np.nonzero(mask)
    return path, [x.min(), y.min(), x.max() + 1, y.max() + 1]


def _save(picture: np.ndarray, path: Path) -> None:
    if path.suffix == ".jpg":
        Image.fromarray(picture).save(path, quality=92)
    else:
        Image.fromarray(picture).save(path, compress_level=1)


def _save_mask(mask: np.ndarray, path: Path) -> None:
    image = Image.fromarray(mask, mode="P")
    image.putpalette(_PALETTE)
    image.save(path)


def _write_csv(path: Path, header: list[str], rows: list[list[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
