"""Predictions to disk as they come: a row a picture in predictions.csv, a palette PNG a mask, a PNG a crop."""

import csv
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image

from callbacks.palette import palette
from callbacks.run_directory import RunDirectory

__all__ = ["PredictionWriter", "cut", "mask_image"]


def mask_image(mask: np.ndarray) -> Image.Image:
    """A (H, W) uint8 mask as a palette picture: the values are the class numbers, the colours are for the eye."""
    image = Image.fromarray(mask, mode=None)
    image.putpalette([channel for colour in palette() for channel in colour])
    return image


def cut(image: np.ndarray, box_xyxy_px: Sequence[float]) -> np.ndarray:
    """The whole pixels of (H, W, C) that a box touches, at least one.

    >>> cut(np.zeros((8, 9, 3), np.uint8), [1.5, 2.0, 4.2, 5.0]).shape  # columns 1 to 4, rows 2 to 4
    (3, 4, 3)
    """
    height, width = image.shape[:2]
    left, top = min(math.floor(box_xyxy_px[0]), width - 1), min(math.floor(box_xyxy_px[1]), height - 1)
    return image[
        top : max(math.ceil(box_xyxy_px[3]), top + 1), left : max(math.ceil(box_xyxy_px[2]), left + 1)
    ]


class PredictionWriter(Callback):
    """Writes what ``predict_step`` returns below ``RUN/predictions/``; it knows nothing of tasks.

    A prediction is a dict with ``index`` (position in the predict data), ``row`` (columns of predictions.csv) and,
    where the task has one, ``mask`` (uint8, original size) or ``crop`` (x1, y1, x2, y2 in original pixels, or
    None). Each process writes its own pictures and its own part of the table; the first one joins the parts in the
    order of the input.

    Args:
        run: Where.
        read_image: A file to its upright picture (H, W, 3) uint8, from which crops are cut.
    """

    def __init__(self, run: RunDirectory, *, read_image: Callable[[str], np.ndarray]) -> None:
        self.run = run
        self.read_image = read_image
        self._file: TextIO | None = None
        self._names: list[str] = []
        self._columns: list[str] = []

    @property
    def directory(self) -> Path:
        """``RUN/predictions``."""
        return self.run.path / "predictions"

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open this process's part of the table."""
        data = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        if trainer.is_global_zero:
            self._put_earlier_aside()
            self.directory.mkdir(parents=True)
        self._paths: Sequence[str] = data.predict_paths
        self._names = output_names(self._paths)
        self._columns = []
        trainer.strategy.barrier("the folder is there")
        self._file = self._part(trainer.global_rank).open("w", newline="", encoding="utf-8")

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write one batch."""
        assert self._file is not None
        for prediction in outputs:
            index, row = prediction["index"], dict(prediction["row"])
            if "mask" in prediction:
                row = {"mask": self._save("masks", index, mask_image(prediction["mask"])), **row}
            if "crop" in prediction:
                row = {"crop": self._save_crop(index, prediction["crop"]), **row}
            writer = csv.writer(self._file, lineterminator="\n")
            if not self._columns:
                self._columns = ["path", *row]
                writer.writerow(["index", *self._columns])
            writer.writerow([index, self._paths[index], *row.values()])
        self._file.flush()

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Join the parts."""
        assert self._file is not None
        self._file.close()
        self._file = None
        trainer.strategy.barrier("all parts are written")
        if not trainer.is_global_zero:
            return
        rows: list[list[str]] = []
        header: list[str] = ["index", "path"]
        parts = [self._part(rank) for rank in range(trainer.world_size)]
        for part in parts:
            with part.open(newline="", encoding="utf-8") as file:
                lines = list(csv.reader(file))
            header = lines[0] if lines else header
            rows += lines[1:]
        temporary = self.directory / ".predictions.csv"
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerows([header[1:], *(row[1:] for row in sorted(rows, key=lambda row: int(row[0])))])
        temporary.replace(self.directory / "predictions.csv")
        for part in parts:
            part.unlink()
        print(f"{len(rows)} predictions in {self.directory}")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Close this process's part; what is written stays."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _save(self, kind: str, index: int, image: Image.Image) -> str:
        """Save a picture of this input, and tell where, counted from the folder of the predictions."""
        path = self.directory / kind / f"{self._names[index]}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
        return path.relative_to(self.directory).as_posix()

    def _save_crop(self, index: int, box_xyxy_px: Sequence[float] | None) -> str:
        if box_xyxy_px is None:
            return ""
        whole = self.read_image(str(self._paths[index]))
        return self._save("crops", index, Image.fromarray(cut(whole, box_xyxy_px)))

    def _put_earlier_aside(self) -> None:
        """Predictions of an earlier call are kept, and not mixed with these."""
        if self.directory.is_dir():
            number = 1
            while (aside := self.directory.with_name(f"predictions_{number}")).exists():
                number += 1
            self.directory.rename(aside)
            print(f"earlier predictions are in {aside} now", flush=True)

    def _part(self, rank: int) -> Path:
        return self.directory / f".part_{rank}.csv"


def output_names(paths: Sequence[str]) -> list[str]:
    """A name without suffix for each input, unique, below their common folder, never outside.

    >>> output_names(["a/x.png", "a/y.png", "a/y.jpg"])
    ['x', 'y.png', 'y.jpg']
    """
    parts = [Path(path).parts for path in paths]
    shared = 0
    if parts:
        shortest = min(len(p) for p in parts) - 1
        while shared < shortest and len({p[shared] for p in parts}) == 1:
            shared += 1
    names = ["/".join(_safe(part) for part in p[shared:]) for p in parts]
    unique: list[str] = []
    stems = [name.rsplit(".", 1)[0] if "." in name.rsplit("/", 1)[-1] else name for name in names]
    count = Counter(stems)
    taken: set[str] = set()
    for stem, name in zip(stems, names, strict=True):
        chosen = wanted = stem if count[stem] == 1 else name
        number = 1
        while chosen in taken:  # x.png.png beside x.png and x.jpg
            number += 1
            chosen = f"{wanted}_{number}"
        taken.add(chosen)
        unique.append(chosen)
    return unique


def _safe(part: str) -> str:
    return "_" if part in ("..", "/", "\\") else re.sub(r"[\\:]", "_", part)
