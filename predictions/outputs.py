"""The files of one prediction, and its record."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from errors import LoupeError
from predictions.coco import box_annotations, mask_annotations
from predictions.journal import Record
from predictions.options import Predictions
from predictions.overlays import answer_of, write_overlay
from predictions.pictures import cut, mask_image
from predictions.probability_maps import write_probability_map

__all__ = ["Outputs", "Task", "Unread"]


@dataclass(frozen=True)
class Task:
    """What must be known of the model.

    Attributes:
        kind: What it gives.
        class_names: In the order of the class numbers.
        threshold: From which confidence on a box counts.
    """

    kind: str
    class_names: Sequence[str]
    threshold: float = 0.5

    def refuse(self, options: Predictions) -> None:
        """LoupeError for what this task has no form for."""
        if options.probability_maps and self.kind != "mask":
            raise LoupeError(
                "predictions.probability_maps=true is for segmentation: only it has probabilities of pixels; those of "
                "this model are in the table"
            )
        if options.coco and self.kind == "label":
            raise LoupeError(
                "predictions.coco=true: COCO has no form for the class of a whole picture; the table holds it"
            )

    @property
    def categories(self) -> list[tuple[int, str]]:
        """COCO's: the classes of a mask less its background, or the one object."""
        names = list(self.class_names)
        if self.kind == "mask" and len(names) > 1:
            return list(enumerate(names))[1:]
        return [(1, names[0] if names else "object")]


@dataclass(frozen=True)
class Unread:
    """An input that was read for the model and could not be read again for a crop or an overlay."""

    index: int
    reason: str


@dataclass(frozen=True)
class Outputs:
    """Writes the files of predictions, from any thread.

    Attributes:
        folder: Of the predictions.
        options: What is written.
        task: Of the model.
        read_image: A file to its upright picture (H, W, 3) uint8.
        run: When the run began, ns.
        now_ns: A clock, ns.
        identity: Of model and settings.
    """

    folder: Path
    options: Predictions
    task: Task
    read_image: Callable[[str], np.ndarray]
    run: int
    now_ns: Callable[[], int]
    identity: str

    def write(
        self, index: int, path: str, name: str, size_hw_px: tuple[int, int], prediction: Mapping[str, Any]
    ) -> Record | Unread:
        """All files of one prediction."""
        picture = _Picture(path, self.read_image)
        try:
            files = self._files(name, picture, prediction)
            size, changed = self._state(path)
        except LoupeError as error:
            return Unread(index, str(error))
        return Record(
            path,
            size,
            changed,
            size_hw_px,
            name,
            files,
            dict(prediction["row"]),
            tuple(self._annotations(prediction)) if self.options.coco else (),
            self.run,
            self.identity,
        )

    def _files(self, name: str, picture: "_Picture", prediction: Mapping[str, Any]) -> dict[str, str]:
        files: dict[str, str] = {}
        if "mask" in prediction:
            files["mask"] = f"masks/{name}.png"
            mask_image(prediction["mask"]).save(self._place(files["mask"]))
        if "crop" in prediction:
            box = prediction["crop"]
            files["crop"] = "" if box is None else f"crops/{name}.png"
            if box is not None:
                Image.fromarray(cut(picture.image, box)).save(self._place(files["crop"]))
        if self.options.overlays:
            files["overlay"] = f"overlays/{name}.jpg"
            answer = answer_of(prediction, threshold=self.task.threshold)
            write_overlay(self._place(files["overlay"]), picture.image, answer, self.task.class_names)
        if self.options.probability_maps:
            files["probabilities"] = f"probabilities/{name}.npz"
            write_probability_map(
                self._place(files["probabilities"]), np.asarray(prediction["probs"]), self.task.class_names
            )
        return files

    def _annotations(self, prediction: Mapping[str, Any]) -> list[dict[str, Any]]:
        row = prediction["row"]
        if "mask" in prediction:
            probs = prediction.get("probs")
            probs = None if probs is None else np.asarray(probs)
            return mask_annotations(prediction["mask"], len(self.task.class_names), probs)
        return box_annotations([row[key] for key in ("x1", "y1", "x2", "y2")], row["confidence"])

    def _place(self, file: str) -> Path:
        path = self.folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _state(self, path: str) -> tuple[int, int | None]:
        """Size and time of the input; no time where it changed since the run began: what was read is not known."""
        try:
            state = Path(path).stat()
        except OSError as error:
            raise LoupeError(f"{path} cannot be read any more: {error.strerror}") from None
        during = self.run <= state.st_mtime_ns <= self.now_ns()
        return state.st_size, None if during else state.st_mtime_ns


class _Picture:
    """The input, read once where it is needed at all."""

    def __init__(self, path: str, read_image: Callable[[str], np.ndarray]) -> None:
        self._path, self._read = path, read_image

    @cached_property
    def image(self) -> np.ndarray:
        return self._read(self._path)
