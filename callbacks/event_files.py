"""TensorBoard's event files, in the run directory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.loggers.logger import rank_zero_experiment
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from callbacks.run_directory import RunDirectory

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["RunTensorBoardLogger", "board_tag"]

#: The group of charts that a score of the training goes to; all others are scores.
_GROUPS = {
    "loss": "loss/epoch",
    "loss_step": "loss/step",
    "regularizer": "loss/regularizer",
    "learning_rate": "optimization/learning_rate",
    "learning_rate_step": "optimization/learning_rate_step",
    "gradient_norm": "optimization/gradient_norm",
    "gradient_norm_step": "optimization/gradient_norm_step",
    "nonfinite_steps": "optimization/nonfinite_steps",
    "loss_scale": "optimization/loss_scale",
    "skipped_steps": "optimization/skipped_steps",
    "data_time": "speed/data_time",
    "images_per_s": "speed/images_per_s",
    "memory_gib": "speed/memory_gib",
}


def board_tag(name: str) -> tuple[str, str]:
    """The part of a run that a score belongs to, "" for all of it, and its tag there.

    TensorBoard draws one tag of several runs into one chart, and a chart's group is what comes before the first slash.

    >>> board_tag("val/loss"), board_tag("train/loss"), board_tag("val/iou"), board_tag("val/iou_per_class/cat")
    (('val', 'loss/epoch'), ('train', 'loss/epoch'), ('val', 'scores/iou'), ('val', 'iou_per_class/cat'))
    >>> board_tag("lr-AdamW")  # of a callback of the user's own
    ('', 'lr-AdamW')
    """
    part, _, score = name.partition("/")
    if part not in ("train", "val", "test") or not score:
        return "", name
    return part, _GROUPS.get(score, score if "/" in score else f"scores/{score}")


class RunTensorBoardLogger(TensorBoardLogger):
    """Lightning's TensorBoard logger, writing into ``RUN/tensorboard``.

    What is of the training and of the validation goes into runs of their own, ``tensorboard/train`` and ``/val``, so
    that both lie in one chart; what is of neither goes into ``tensorboard`` itself.

    Args:
        run: Where.
        resumed_step: Optimizer steps that are done where a run goes on. What earlier files hold of later steps,
            which were lost, TensorBoard then leaves out.
    """

    def __init__(self, run: RunDirectory, *, resumed_step: int | None = None) -> None:
        super().__init__(save_dir=str(run.parent.parent), name=run.parent.name, default_hp_metric=False)
        self.run = run
        self.resumed_step = resumed_step
        self._earlier: list[Path] | None = None
        self._parts: dict[str, SummaryWriter] = {}

    @property
    def log_dir(self) -> str:
        """The run directory."""
        return str(self.run.path)

    @property
    def root_dir(self) -> str:
        """The run directory too: a run that goes on may lie elsewhere than its name says."""
        return str(self.run.path)

    @property
    def version(self) -> int:
        """The run's number, as in ``version_3``; -1 before it is claimed."""
        return self.run.number

    @property
    def folder(self) -> Path:
        """``RUN/tensorboard``."""
        return self.run.path / "tensorboard"

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The writer of what is of no part, once the run has its folder; on the first process."""
        if not self.run.claimed:
            # Lightning asks by hasattr() before the folder is chosen, to have loggers open it (2.6, _call_setup_hook).
            raise AttributeError("the run directory is not claimed yet")
        return self.part("")

    def part(self, name: str) -> SummaryWriter:
        """The writer of ``train``, ``val`` or "", made when it is first asked for."""
        from torch.utils.tensorboard import SummaryWriter  # here: --help does without

        rank: int = rank_zero_only.rank  # pyright: ignore[reportFunctionMemberAccess]
        assert rank == 0, "only the first process writes"
        if self._earlier is None:
            self._earlier = self._files()
        if name not in self._parts:
            self._parts[name] = SummaryWriter(str(self.folder / name), purge_step=self.resumed_step)
        return self._parts[name]

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Each score to the part that it belongs to."""
        for name, value in metrics.items():
            if name == "epoch":  # Lightning's; the step says it
                continue
            part, tag = board_tag(name)
            number = value.item() if isinstance(value, Tensor) else value
            self.part(part).add_scalar(tag, number, step)

    def sizes(self) -> dict[str, int]:
        """The event files below `folder`, and how long they are, bytes, once all is written."""
        self._flush()
        return {path.relative_to(self.folder).as_posix(): path.stat().st_size for path in self._files()}

    def cut(self, sizes: dict[str, int]) -> None:
        """Cut the files of earlier processes back to these sizes, and remove those that were not there."""
        for path in self._earlier or []:
            size = sizes.get(path.relative_to(self.folder).as_posix())
            if size is None:
                path.unlink()
            elif size < path.stat().st_size:
                os.truncate(path, size)

    def _files(self) -> list[Path]:
        return sorted(self.folder.rglob("events.out.tfevents.*"))

    def _flush(self) -> None:
        self.experiment  # noqa: B018  what was there before is looked at even where nothing was written yet
        for writer in self._parts.values():
            writer.flush()

    @rank_zero_only
    def save(self) -> None:
        """Flush; the hyperparameters are in config.yaml already."""
        self._flush()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Close the files that were opened."""
        for writer in self._parts.values():
            writer.close()
