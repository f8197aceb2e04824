"""Checkpoints: `best` and `last` after every epoch, more within an epoch when asked, each written whole."""

import math
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

from callbacks.run_directory import RunDirectory
from errors import LoupeError

__all__ = ["AtomicCheckpointIO", "RunCheckpoint"]


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes to a temporary name, forces it to the disk, and renames: no reader ever sees half a checkpoint."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any | None = None
    ) -> None:
        """Save ``checkpoint`` at ``path``; the old file stays until the new one is whole."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            with temporary.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)


class RunCheckpoint(Checkpoint):
    """Keeps ``checkpoints/best.ckpt`` and ``checkpoints/last.ckpt`` of a run up to date.

    At the end of each epoch the state is saved once, as ``last``; when the monitored score is the best so far,
    ``best`` becomes another name of the same file. A score that is not a number is never the best, but until
    there is one the first epoch stands in.

    Args:
        run: Where.
        monitor: The score's key.
        mode: min or max.
        measure: What makes a score comparable with that of an earlier part of the run.
        every_n_steps: Optimizer steps between saves within an epoch (``step_000100.ckpt``, also ``last``).
        every_minutes: Minutes between saves within an epoch.
        keep: How many of those to keep.
    """

    def __init__(
        self,
        run: RunDirectory,
        *,
        monitor: str,
        mode: str,
        measure: str = "",
        every_n_steps: int | None = None,
        every_minutes: float | None = None,
        keep: int = 3,
    ) -> None:
        self.run = run
        self.monitor = monitor
        self.mode = mode
        self.measure = measure or monitor
        self.every_n_steps = every_n_steps
        self.every_minutes = every_minutes
        self.keep = keep
        self.best_score: float | None = None
        self.best_epoch: int | None = None
        self._step = 0
        self._told = False
        self._saved_at = time.monotonic()

    @property
    def directory(self) -> Path:
        """``RUN/checkpoints``."""
        return self.run.path / "checkpoints"

    @property
    def best_model_path(self) -> str:
        """The best checkpoint, under the name that Lightning's Trainer asks for; "" before there is one."""
        path = self.directory / "best.ckpt"
        return str(path) if path.exists() else ""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the epoch; Lightning calls this after validation and after the module's own hook."""
        if trainer.fast_dev_run:  # pyright: ignore[reportAttributeAccessIssue]
            return
        # An epoch without validation (trainer.check_val_every_n_epoch) has no score, and is not the best.
        fresh = pl_module.has_fresh(self.monitor)  # pyright: ignore[reportCallIssue]
        score = self._score(trainer) if fresh else math.nan
        if fresh and math.isnan(score) and not self._told and trainer.is_global_zero:
            print(
                f"note: {self.monitor} is not a number in epoch {trainer.current_epoch + 1}: the val part has nothing "
                f"to judge it by; until it is one, best.ckpt is the first epoch's",
                flush=True,
            )
            self._told = True
        improved = self._improves(score)
        if improved:
            self.best_score = score
            self.best_epoch = trainer.current_epoch
        self._save(trainer, "last.ckpt")
        if improved and trainer.is_global_zero:
            _alias(self.directory / "last.ckpt", self.directory / "best.ckpt")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count the steps from where the run begins, or goes on."""
        self._step = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save within the epoch when it is time: after an optimizer step, never between its micro-batches."""
        stepped = trainer.global_step != self._step
        self._step = trainer.global_step
        if trainer.fast_dev_run or not stepped:  # pyright: ignore[reportAttributeAccessIssue]
            return
        due = self.every_n_steps is not None and trainer.global_step % self.every_n_steps == 0
        if self.every_minutes is not None:
            late = time.monotonic() - self._saved_at >= 60 * self.every_minutes
            due = due or bool(trainer.strategy.broadcast(late))  # one clock decides for all processes
        if not due:
            return
        name = f"step_{trainer.global_step:08d}.ckpt"
        self._save(trainer, name)
        if trainer.is_global_zero:
            _alias(self.directory / name, self.directory / "last.ckpt")
            for old in sorted(self.directory.glob("step_*.ckpt"))[: -self.keep]:
                old.unlink()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """A polite request to end (SIGTERM) is granted after the state is saved; Lightning raises it between steps."""
        if isinstance(exception, SIGTERMException) and trainer.training and not trainer.fast_dev_run:  # pyright: ignore[reportAttributeAccessIssue]
            self._save(trainer, "last.ckpt")

    def state_dict(self) -> dict[str, Any]:
        """The best score so far."""
        return {"best_score": self.best_score, "best_epoch": self.best_epoch, "measure": self.measure}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on comparing with the best so far, unless another score or another loss is watched now."""
        if state_dict["measure"] == self.measure:
            self.best_score, self.best_epoch = state_dict["best_score"], state_dict["best_epoch"]

    def _score(self, trainer: Trainer) -> float:
        metrics: Mapping[str, Any] = trainer.callback_metrics
        if self.monitor not in metrics:
            raise LoupeError(
                f"training.monitor '{self.monitor}' was not logged in this epoch; logged: {', '.join(sorted(metrics))}"
            )
        return float(metrics[self.monitor])

    def _improves(self, score: float) -> bool:
        if self.best_score is None:
            return True
        if math.isnan(score):
            return False
        if math.isnan(self.best_score):
            return True
        return score < self.best_score if self.mode == "min" else score > self.best_score

    def _save(self, trainer: Trainer, name: str) -> None:
        self._saved_at = time.monotonic()
        trainer.save_checkpoint(self.directory / name, weights_only=False)


def _alias(source: Path, target: Path) -> None:
    """Make ``target`` another name of the file ``source``, or a copy where the file system has no links."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:
        shutil.copyfile(source, temporary)
    temporary.replace(target)
