"""What an evaluation found, sample by sample, in one file of the run directory: the report is made from it."""

import io
import json
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from callbacks.run_directory import RunDirectory, write_atomically
from callbacks.samples_on_show import SamplesOnShow, paths_of
from callbacks.shown_samples import as_shown
from figures import caption, draw_tile
from metrics import answers_of

__all__ = ["EvaluationRecord", "record_content"]

log = logging.getLogger(__name__)

_TASKS = {"label": "classification", "mask": "segmentation", "box": "cropping"}
_CHOSEN_BY = {
    "classification": "the loss: -log of the probability that was given to the truth",
    "segmentation": "1 - IoU, the mean over the classes in the picture or its prediction (background left out of two)",
    "cropping": "1 - IoU of the box, or the confidence where there is no object",
}
#: Numbers of a table of pictures and classes that are kept; above, only the answers.
_MOST_KEPT = 5_000_000
_SIDE = 224  # pixels of a picture's longer side


class EvaluationRecord(Callback):
    """Writes ``RUN/evaluation/{val,validate,test}.npz``; see docs/report.md for what is in it.

    A fit's ``val.npz`` is written along with ``best.ckpt``, from the same validation. Where a model is scored with and
    without what `inference` and `roi` ask, the pass without is in ``RUN/evaluation/plain/``.

    Args:
        run: Where.
        on_show: Has the worst samples.
        command: ``fit``, ``validate`` or ``test``.
        checkpoint: The file that is scored; null in a fit.
    """

    def __init__(
        self, run: RunDirectory, on_show: SamplesOnShow, *, command: str, checkpoint: str | None = None
    ) -> None:
        self.run = run
        self.on_show = on_show
        self.command = command
        self.checkpoint = checkpoint
        self.plain = False
        self._fresh = False

    @property
    def path(self) -> Path:
        """The file of this pass."""
        name = {"fit": "val"}.get(self.command, self.command)
        return self.run.path / "evaluation" / ("plain" if self.plain else "") / f"{name}.npz"

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write what `validate` found; in a fit it is known from now on."""
        if trainer.sanity_checking:
            return
        self._fresh = True
        if self.command == "validate":
            self.write(trainer, pl_module)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write what `test` found."""
        self._fresh = True
        self.write(trainer, pl_module)

    def write(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the newest evaluation, on the first process, unless it is written already."""
        if not self._fresh or not trainer.is_global_zero or not self.run.claimed:
            return
        self._fresh = False
        part = "test" if self.command == "test" else "val"
        about = {
            "stage": part,
            "command": self.command,
            "epoch": trainer.current_epoch if self.command == "fit" else None,
            "checkpoint": self.checkpoint,
            "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        }
        data: Any = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        try:
            content = record_content(pl_module, data, part, about, self.on_show.worst)
            stream = io.BytesIO()
            np.savez(stream, **content)  # pyright: ignore[reportArgumentType]
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self.path, stream.getvalue())
        except (
            Exception
        ):  # the report is not worth a training, nor are other processes to wait for one that ended
            log.warning("the evaluation could not be kept for the report", exc_info=True)


def record_content(
    module: Any, data: Any, part: str, about: Mapping[str, Any], worst: Sequence[Mapping[str, Tensor]]
) -> dict[str, np.ndarray]:
    """The arrays of a record, ``meta`` among them, from the module's last evaluation."""
    found: dict[str, Tensor] = module.evaluated
    task = _TASKS[module.learns[0]]
    names = list(module.class_names)
    index = found["index"].numpy()
    thresholds: Sequence[float] | None = module.calibration.thresholds
    arrays = {"index": index, **_samples(found, task, thresholds)}
    arrays |= {key: found[key].numpy() for key in ("confusion", "reliability") if key in found}
    groups = _groups(data, part, index)
    if groups is not None:
        arrays["group"] = groups
    paths = paths_of(data, part)
    shown = [as_shown(sample, names, str(paths[int(sample["index"])])) for sample in worst]
    for number, sample in enumerate(shown):
        stream = io.BytesIO()
        draw_tile(sample, side=_SIDE).convert("RGB").save(stream, "JPEG", quality=82)
        arrays[f"worst_{number:02d}"] = np.frombuffer(stream.getvalue(), np.uint8)
    per_class = {
        k.removesuffix("_per_class"): v.tolist() for k, v in found.items() if k.endswith("_per_class")
    }
    meta = {
        **about,
        "task": task,
        "multi_label": bool(module.multi_label),
        "thresholds": None if thresholds is None else list(thresholds),
        "class_names": names,
        "samples": len(index),
        "scores": {k: _number(v.item()) for k, v in found.items() if v.ndim == 0},
        "per_class": {k: [_number(value) for value in column] for k, column in per_class.items()},
        "worst": [
            {"file": sample.name, "caption": caption(sample), "figure": float(kept["rank"])}
            for sample, kept in zip(shown, worst, strict=True)
        ],
        "description": _CHOSEN_BY[task],
    }
    return {"meta": np.array(json.dumps(meta)), **arrays}


def _samples(
    found: Mapping[str, Tensor], task: str, thresholds: Sequence[float] | None
) -> dict[str, np.ndarray]:
    """One row a picture, in the order of ``index``."""
    if task == "segmentation":
        regions = found["regions"].numpy()
        return {"hits": regions[:, 0], "truth": regions[:, 1], "predicted": regions[:, 2]}
    if task == "cropping":
        names = {"iou": "ious", "confidence": "confidence", "has_box": "has_box"}
        return {name: found[key].numpy() for name, key in names.items()}
    label, log_odds = found["label"].numpy(), found["log_odds"].numpy()
    if log_odds.size <= _MOST_KEPT:
        return {"label": label, "log_odds": log_odds}
    return {"label": label, "predicted": answers_of(log_odds, thresholds, several=label.ndim == 2)}


def _groups(data: Any, part: str, index: np.ndarray) -> np.ndarray | None:
    """Numbers of the groups that the scored samples belong to, (N,) int64; None where the data has none."""
    column = data.samples[part].columns.get("group") if hasattr(data, "samples") else None
    if column is None:
        return None
    names = np.array(list(column))[index]
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
