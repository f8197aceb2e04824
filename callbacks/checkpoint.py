"""Checkpoints: `best` and `last` after every epoch, more within an epoch when asked, and one when a run is stopped."""

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

from callbacks.checkpoint_files import CheckpointFolder
from callbacks.idle_hooks import set_aside
from callbacks.loop_state import resume_loops, settle_loops, stands_at
from callbacks.run_directory import RunDirectory
from errors import LoupeError

__all__ = ["RunCheckpoint"]


class RunCheckpoint(Checkpoint):
    """Keeps ``checkpoints/best.ckpt`` and ``checkpoints/last.ckpt`` of a run up to date.

    At the end of each epoch the state is saved once, as ``last``; when the monitored score is the best so far,
    ``best`` becomes another name of the same file. A score that is not a number is never the best, but until
    there is one the first epoch stands in. The ``last`` before is kept as ``previous``.

    A state is saved between two optimizer steps, before a validation, or between two epochs, and only once the loggers
    have what came before it: whatever a run that goes on from it writes, nothing is missing and nothing is double.

    Args:
        run: Where.
        monitor: The score's key.
        mode: min or max.
        measure: What makes a score comparable with that of an earlier part of the run.
        every_n_steps: Optimizer steps between saves within an epoch (``step_00000100.ckpt``, also ``last``).
        every_minutes: Minutes between saves within an epoch.
        keep: How many of those to keep.
        with_best: Called on the first process when the state at hand became the best: writes what goes with it.
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
        with_best: Callable[[Trainer, LightningModule], None] | None = None,
    ) -> None:
        self.run = run
        self.monitor = monitor
        self.mode = mode
        self.measure = measure or monitor
        self.every_n_steps = every_n_steps
        self.every_minutes = every_minutes
        self.keep = keep
        self.with_best = with_best
        self.best_score: float | None = None
        self.best_epoch: int | None = None
        self._step = 0
        self._due = False
        self._told = False
        self._saved: tuple[int, int, bool] | None = None
        self._saved_at = time.monotonic()
        if every_n_steps is None and every_minutes is None:
            set_aside(self, "on_train_batch_start", "on_train_batch_end")

    @property
    def directory(self) -> Path:
        """``RUN/checkpoints``."""
        return self.run.path / "checkpoints"

    @property
    def best_model_path(self) -> str:
        """The best checkpoint, under the name that Lightning's Trainer asks for; "" before there is one."""
        path = self.directory / "best.ckpt"
        return str(path) if path.exists() else ""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count the steps from where the run begins, or goes on."""
        resume_loops(trainer)
        self._step = trainer.global_step
        self._saved_at = time.monotonic()
        if trainer.is_global_zero and self.run.claimed:
            CheckpointFolder(self.directory).sweep()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Find that it is time to save; the loggers have not been told of this step yet, so not at once."""
        stepped = trainer.global_step != self._step
        self._step = trainer.global_step
        if trainer.fast_dev_run or not stepped:  # pyright: ignore[reportAttributeAccessIssue]
            return
        due = self.every_n_steps is not None and trainer.global_step % self.every_n_steps == 0
        if self.every_minutes is not None:
            late = time.monotonic() - self._saved_at >= 60 * self.every_minutes
            due = due or bool(trainer.strategy.broadcast(late))  # one clock decides for all processes
        self._due = due

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Save between two steps."""
        self._save_if_due(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save between the last step and the validation."""
        self._save_if_due(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the epoch; Lightning calls this after validation and after the module's own hook."""
        self._due = False
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
        _, within = stands_at(trainer)
        if not within:  # where trainer.max_steps ended it early the sums of the epoch are still needed
            _tell_loggers(trainer)
        self._save(trainer, *(["best.ckpt"] if improved else []))

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save where a polite request to end (`Interruption`) is granted: on all processes, between two steps."""
        asked = isinstance(exception, SIGTERMException) and trainer.global_step > 0
        if asked and not trainer.fast_dev_run and self._saved != _place(trainer):  # pyright: ignore[reportAttributeAccessIssue]
            self._save(trainer)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Say plainly where the fit stands."""
        settle_loops(trainer, checkpoint["loops"])

    def state_dict(self) -> dict[str, Any]:
        """The best score so far."""
        return {"best_score": self.best_score, "best_epoch": self.best_epoch, "measure": self.measure}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on comparing with the best so far, unless another score or another loss is watched now."""
        if state_dict["measure"] == self.measure:
            score, epoch = state_dict["best_score"], state_dict["best_epoch"]
            self.best_score = None if score is None else float(score)
            self.best_epoch = None if epoch is None else int(epoch)

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

    def _save_if_due(self, trainer: Trainer) -> None:
        if self._due and not trainer.sanity_checking:
            self._due = False
            self._save(trainer, f"step_{trainer.global_step:08d}.ckpt")
            if trainer.is_global_zero:
                CheckpointFolder(self.directory).prune_steps(self.keep)

    def _save(self, trainer: Trainer, *others: str) -> None:
        """Write ``last``, and the same under other names; LoupeError on all processes where that fails."""
        for logger in trainer.loggers:
            logger.save()  # what is on its way to a file must not be lost where the state is not
        folder = CheckpointFolder(self.directory)
        # Each process contributes; what Trainer.save_checkpoint does as well would leave the others waiting for ever
        # where the first cannot write.
        content = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)  # pyright: ignore[reportPrivateUsage]
        failed = ""
        if trainer.is_global_zero:
            try:
                trainer.strategy.checkpoint_io.save_checkpoint(content, folder.fresh)
                folder.publish(*others)
                if "best.ckpt" in others and self.with_best is not None:
                    self.with_best(trainer, trainer.lightning_module)
            except (OSError, LoupeError) as error:
                failed = str(error).replace(folder.fresh.name, "last.ckpt")
        failed = trainer.strategy.broadcast(failed)
        if failed:
            there = (self.directory / "last.ckpt").exists()
            kept = "the one before it is still whole" if there else "none is there"
            raise LoupeError(f"{failed}; {kept}. Make room and go on with --ckpt_path last")
        self._saved, self._saved_at = _place(trainer), time.monotonic()


def _place(trainer: Trainer) -> tuple[int, int, bool]:
    return *stands_at(trainer), trainer.validating


def _tell_loggers(trainer: Trainer) -> None:
    """Hand the scores of the epoch to the loggers now, where Lightning (2.6) would do it after the last hook.

    A run that is killed in between would have saved an epoch of which metrics.csv and TensorBoard do not know. When
    Lightning comes to it there is nothing left to hand over.
    """
    connector = trainer._logger_connector  # pyright: ignore[reportPrivateUsage]
    epoch_loop = trainer.fit_loop.epoch_loop
    connector.on_epoch_end()
    epoch_loop._batches_that_stepped -= 1  # pyright: ignore[reportPrivateUsage]  the step that they belong to
    connector.update_train_epoch_metrics()
    epoch_loop._batches_that_stepped += 1  # pyright: ignore[reportPrivateUsage]
