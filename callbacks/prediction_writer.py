"""Predictions to disk as they come: a row a picture in predictions.csv, a palette PNG a mask, a PNG a crop."""

import csv
import math
import os
import re
import socket
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image

from callbacks.run_directory import RunDirectory
from errors import LoupeError
from figures import palette

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
    None). Each process writes its own pictures and its own part of the table as they come. In the end the parts go
    through the process group to the first process, which writes the table in the order of the input, each picture
    once. On machines that share no disk the pictures stay where they were made, and a line says where.

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
        self._pictures = 0
        self._elsewhere = False

    @property
    def directory(self) -> Path:
        """``RUN/predictions``."""
        return self.run.path / "predictions"

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open this process's part of the table."""
        data = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        seen = ""
        if trainer.is_global_zero:
            self._put_earlier_aside()
            self.directory.mkdir(parents=True)
            seen = f".of_{socket.gethostname()}_{os.getpid()}"
            (self.directory / seen).touch()
        self._paths: Sequence[str] = data.predict_paths
        self._names = output_names(self._paths)
        self._columns = []
        seen = trainer.strategy.broadcast(seen)  # by now the folder is there
        self._elsewhere = not (self.directory / seen).exists()
        self.directory.mkdir(parents=True, exist_ok=True)
        trainer.strategy.barrier("all have looked")
        if trainer.is_global_zero:
            (self.directory / seen).unlink()
        self._pictures = 0
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
        """Join the parts; LoupeError where a picture is missing or is there twice."""
        assert self._file is not None
        self._file.close()
        self._file = None
        part = self._part(trainer.global_rank)
        with part.open(newline="", encoding="utf-8") as file:
            lines = list(csv.reader(file))
        data = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        where = f"{self._pictures} on {socket.gethostname()}: {self.directory.resolve()}"
        mine = lines, data.unreadable_predict(), where if self._elsewhere and self._pictures else ""
        rows: list[list[str]] = []
        header: list[str] = ["index", "path"]
        unreadable: set[int] = set()
        away: list[str] = []
        indices: list[int] = []
        # One after the other: all check the numbers, one keeps the texts.
        for rank in range(trainer.world_size):
            lines, skipped, elsewhere = trainer.strategy.broadcast(mine, src=rank)
            header = lines[0] if lines else header
            indices += [int(row[0]) for row in lines[1:]]
            rows += lines[1:] if trainer.is_global_zero else []
            unreadable.update(skipped)
            away += [elsewhere] if elsewhere else []
        batches = sum(int(count) for count in trainer.num_predict_batches)  # trainer.limit_predict_batches
        asked = min(len(self._paths), batches * data.loader.batch_size)
        refuse_miscount(indices, asked, unreadable)
        if trainer.is_global_zero:
            temporary = self.directory / ".predictions.csv"
            with temporary.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerows(
                    [header[1:], *(row[1:] for row in sorted(rows, key=lambda row: int(row[0])))]
                )
            temporary.replace(self.directory / "predictions.csv")
            print(f"{len(rows)} predictions in {self.directory}")
            if away:
                print(
                    f"note: the machines share no disk, so pictures named in predictions.csv lie elsewhere: "
                    f"{'; '.join(away)}"
                )
        trainer.strategy.barrier("the table is written")
        part.unlink()
        if self._elsewhere and not any(self.directory.iterdir()):
            self.directory.rmdir()

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
        self._pictures += 1
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


def refuse_miscount(indices: Sequence[int], asked: int, unreadable: Collection[int]) -> None:
    """LoupeError unless each of the first ``asked`` inputs is there once, but for those that could not be read.

    >>> refuse_miscount([0, 2], 3, {1})
    >>> refuse_miscount([0, 2, 2], 4, {1})
    Traceback (most recent call last):
        ...
    errors.LoupeError: predict: of 4 pictures 1 has no prediction and 1 has more than one; there is no predictions.csv
    """
    count = Counter(indices)
    missing = sum(index not in count and index not in unreadable for index in range(asked))
    twice = sum(number > 1 for number in count.values())
    if missing or twice:
        none, more = ("has" if number == 1 else "have" for number in (missing, twice))
        raise LoupeError(
            f"predict: of {asked} pictures {missing} {none} no prediction and {twice} {more} more than one; "
            f"there is no predictions.csv"
        )


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
