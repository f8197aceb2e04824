"""What a run left in its directory, read back: every file may be missing, older than another, or damaged."""

import csv
import io
import json
import math
import zipfile
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from errors import LoupeError

__all__ = ["Evaluation", "Run", "is_run", "moment", "read_evaluation", "read_run"]


@dataclass(frozen=True)
class Evaluation:
    """One pass over a part: what was scored, and what of each picture is needed to score it again.

    Attributes:
        meta: Stage, task, class names, scores and the worst pictures, as `RUN/evaluation/*.npz` holds them.
        arrays: ``index`` (N,) and the task's arrays; none of them is pickled.
        pictures: JPEG files of the worst pictures, in the order of ``meta["worst"]``.
    """

    meta: dict[str, Any]
    arrays: dict[str, np.ndarray]
    pictures: list[bytes]

    @property
    def stage(self) -> str:
        """``val`` or ``test``."""
        return str(self.meta.get("stage", "test"))

    @property
    def task(self) -> str:
        """``classification``, ``segmentation`` or ``cropping``."""
        return str(self.meta.get("task", ""))

    @property
    def class_names(self) -> list[str]:
        """Names in the order of the class numbers."""
        return [str(name) for name in self.meta.get("class_names") or []]

    @property
    def samples(self) -> int:
        """Pictures that were scored."""
        return int(self.meta.get("samples") or len(self.arrays.get("index", ())))

    @property
    def scores(self) -> dict[str, float]:
        """Scores by their names without the stage; NaN where absent."""
        return {str(name): _number(value) for name, value in (self.meta.get("scores") or {}).items()}

    @property
    def per_class(self) -> dict[str, list[float]]:
        """Scores of each class (K,); NaN where absent."""
        columns = self.meta.get("per_class") or {}
        return {str(name): [_number(value) for value in values] for name, values in columns.items()}


@dataclass(frozen=True)
class Run:
    """A run directory.

    Attributes:
        path: The directory.
        config: The resolved configuration, empty where there is none.
        config_text: The same as its file has it.
        about: `RUN/run.json`, empty where there is none.
        history: Columns of `RUN/metrics.csv`, each (epochs,), NaN where a field is empty.
        evaluations: At most one a stage, ``test`` first.
        notes: What is missing or cannot be read, in sentences.
    """

    path: Path
    config: dict[str, Any] = field(default_factory=dict)
    config_text: str = ""
    about: dict[str, Any] = field(default_factory=dict)
    history: dict[str, np.ndarray] = field(default_factory=dict)
    evaluations: list[Evaluation] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def evaluation(self, stage: str) -> Evaluation | None:
        """That of a stage, or None."""
        return next((found for found in self.evaluations if found.stage == stage), None)

    def is_older(self, evaluation: Evaluation) -> bool:
        """Whether the training went on after an evaluation of its own; that of the fit goes with best.ckpt."""
        if evaluation.meta.get("command") == "fit":
            return False
        began = [moment(session.get("began")) for session in self.about.get("sessions") or []]
        date = moment(evaluation.meta.get("date"))
        return date is not None and any(one is not None and one > date for one in began)

    def is_of_another_epoch(self, evaluation: Evaluation) -> bool:
        """Whether a fit's evaluation is not that of best.ckpt, because the run was cut off between the two."""
        epoch, best = evaluation.meta.get("epoch"), (self.about.get("best") or {}).get("epoch")
        fit = evaluation.meta.get("command") == "fit"
        return fit and epoch is not None and best is not None and epoch != best

    def is_of_best(self, evaluation: Evaluation) -> bool:
        """Whether the weights that were scored are those of best.ckpt."""
        if evaluation.meta.get("command") == "fit":
            return not self.is_of_another_epoch(evaluation)
        name = Path(str(evaluation.meta.get("checkpoint") or "")).name
        return name == "best.ckpt" and not self.is_older(evaluation)

    def epoch_of(self, evaluation: Evaluation) -> int | None:
        """The epoch of the weights that were scored, from 1: as recorded, or that of the best checkpoint; or None."""
        epoch = evaluation.meta.get("epoch")
        if epoch is None and self.is_of_best(evaluation):
            epoch = (self.about.get("best") or {}).get("epoch")
        return None if epoch is None else int(epoch) + 1

    @property
    def best_epoch(self) -> int | None:
        """That of the best checkpoint, from 1, as the terminal counts."""
        epoch = (self.about.get("best") or {}).get("epoch")
        return None if epoch is None else int(epoch) + 1


def is_run(path: Path) -> bool:
    """Whether a directory holds anything that a run writes and a report reads."""
    names = ("config.yaml", "metrics.csv", "run.json")
    return any((path / name).is_file() for name in names) or any((path / "evaluation").glob("*.npz"))


def read_run(path: Path) -> Run:
    """Everything of a run directory that a report needs.

    LoupeError where the directory is missing or holds nothing of a run. A file that cannot be read is left out with a
    note: a report must not fail for one of its parts.
    """
    if not path.is_dir():
        raise LoupeError(f"run directory: no folder {path}; give a folder such as runs/seg_unet/version_0")
    if not is_run(path):
        raise LoupeError(
            f"run directory: {path} has no config.yaml, metrics.csv, run.json or evaluation/; "
            f"give the folder of one run, such as runs/seg_unet/version_0"
        )
    notes: list[str] = []
    text = _attempt(path / "config.yaml", lambda file: file.read_text(encoding="utf-8"), "", notes)
    config = _attempt(path / "config.yaml", _yaml, {}, []) if text else {}
    if text and not config:
        notes.append("config.yaml is no YAML mapping.")
    about = _attempt(path / "run.json", _json, {}, notes)
    history = _attempt(path / "metrics.csv", _columns, {}, notes)
    return Run(path, config, text, about, history, _evaluations(path / "evaluation", notes), notes)


def _attempt(path: Path, read: Any, nothing: Any, notes: list[str]) -> Any:
    if not path.is_file():
        notes.append(f"There is no {path.name}.")
        return nothing
    try:
        return read(path)
    except (OSError, ValueError, KeyError, TypeError, EOFError, yaml.YAMLError, zipfile.BadZipFile) as error:
        notes.append(f"{path.name} cannot be read: {(str(error) or repr(error)).splitlines()[0]}.")
        return nothing


def _yaml(path: Path) -> dict[str, Any]:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content if isinstance(content, dict) else {}


def _json(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError("it is no mapping")
    kinds = {"best": dict, "git": dict, "environment": dict, "data": dict, "model": dict, "training": dict}
    kinds |= {"sessions": list, "command": list}
    return {k: v for k, v in content.items() if k not in kinds or isinstance(v, kinds[k])}


def moment(text: Any) -> datetime | None:
    """A date with its zone; one without is of this machine's. None for what is no date."""
    try:
        return datetime.fromisoformat(str(text)).astimezone()
    except ValueError:
        return None


def _columns(path: Path) -> dict[str, np.ndarray]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in (rows[0] if rows else {}) if name]
    return {name: np.array([float(row[name] or "nan") for row in rows]) for name in names}


def _evaluations(folder: Path, notes: list[str]) -> list[Evaluation]:
    """The test, and the newer of the fit's own validation and that of `validate`."""
    found = [
        evaluation
        for path in sorted(folder.glob("*.npz"))
        if (evaluation := _attempt(path, read_evaluation, None, notes)) is not None
    ]
    chosen: list[Evaluation] = []
    for stage in ("test", "val"):
        same = sorted((e for e in found if e.stage == stage), key=_when)
        chosen += same[-1:]
        notes += [
            f"The {_PASS[stage]} of {_date(older)} by `{older.meta.get('command')}` is not shown: "
            f"there is a newer one of {_date(same[-1])}."
            for older in same[:-1]
        ]
    return chosen


_PASS = {"val": "validation", "test": "test"}


def _when(evaluation: Evaluation) -> float:
    date = moment(evaluation.meta.get("date"))
    return date.timestamp() if date else 0.0


def _date(evaluation: Evaluation) -> str:
    date = moment(evaluation.meta.get("date"))
    return f"{date:%Y-%m-%d %H:%M}" if date else "unknown date"


def read_evaluation(path: Path) -> Evaluation:
    """A file of ``RUN/evaluation``; raises what numpy, json and zipfile raise for one that is damaged."""
    # from memory: numpy leaves the file of a damaged archive open
    with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
        held = {name: file[name] for name in file.files}
    meta = json.loads(str(held.pop("meta")))
    if not isinstance(meta, dict):
        raise ValueError("its meta is no mapping")
    pictures = [held.pop(name).tobytes() for name in sorted(held) if name.startswith("worst_")]
    return Evaluation(meta, held, pictures)


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
