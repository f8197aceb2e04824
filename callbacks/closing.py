"""What the terminal shows after the last step: the best score, where it is kept, and how to go on."""

import math
import time
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException

from callbacks.checkpoint import RunCheckpoint
from callbacks.run_directory import RunDirectory
from callbacks.terminal import emphasised, spoken_time

__all__ = ["ClosingTable"]

_STYLES = {"best": "bold green", "note": "bold yellow"}


class ClosingTable(Callback):
    """After a fit: the best score, where its checkpoint is, and the commands to test and to predict with it."""

    def __init__(self, run: RunDirectory, checkpoint: RunCheckpoint | None) -> None:
        self.run = run
        self.checkpoint = checkpoint
        self._began = time.monotonic()
        self._first_step = -1

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._began = time.monotonic()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember where the run began, or went on."""
        self._first_step = trainer.global_step

    @rank_zero_only
    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """A run that was stopped says how it goes on."""
        stopped = isinstance(exception, (KeyboardInterrupt, SIGTERMException))
        if not stopped or trainer.state.fn != TrainerFn.FITTING or self.checkpoint is None:
            return
        saved = isinstance(exception, SIGTERMException) and trainer.global_step > 0
        if self.run.claimed and (saved or (self.run.path / "checkpoints" / "last.ckpt").exists()):
            print(f"stopped; go on with: {_command('fit', self.run.path / 'config.yaml')} last", flush=True)
        else:
            print("stopped; nothing was saved yet", flush=True)

    @rank_zero_only
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the table, unless nothing was trained."""
        if trainer.fast_dev_run or not self.run.claimed or trainer.interrupted:  # pyright: ignore[reportAttributeAccessIssue]
            return
        rows: list[tuple[str, str]] = []
        kept = self.checkpoint
        if kept is not None and kept.best_score is not None and math.isfinite(kept.best_score):
            epoch = (kept.best_epoch or 0) + 1
            of = max(epoch, trainer.current_epoch)
            rows.append(("best", f"{kept.monitor} {kept.best_score:.4f} in epoch {epoch} of {of}"))
            rows.append(("checkpoint", kept.best_model_path))
        elif kept is not None and kept.best_score is not None:
            rows.append(("note", f"{kept.monitor} was never a number; best.ckpt is the first epoch's"))
        if self._first_step in (-1, trainer.global_step):  # -1: Lightning began no epoch
            rows.append(("note", f"there was nothing left to train; {_what_ended(trainer)}"))
        rows.append(("time", spoken_time(time.monotonic() - self._began)))
        rows.append(("run", str(self.run.path)))
        config = self.run.path / "config.yaml"
        if kept is not None:
            rows.append(("test", f"{_command('test', config)} best"))
            rows.append(("predict", f"{_command('predict', config)} best --data.predict_path FOLDER"))
        width = max(len(name) for name, _ in rows)
        print(
            "",
            *(
                f"  {emphasised(f'{name:<{width}}', _STYLES.get(name, 'bold'))}  {text}"
                for name, text in rows
            ),
            "",
            sep="\n",
            flush=True,
        )


def _what_ended(trainer: Trainer) -> str:
    if any(rule.wait_count >= rule.patience for rule in trainer.early_stopping_callbacks):
        return "early stopping had ended the run; give a larger training.early_stopping.patience"
    if 0 < trainer.max_steps <= trainer.global_step:
        return "give a larger trainer.max_steps"
    if trainer.should_stop:
        return "trainer.max_time is used up, or a callback of yours ended the run"
    return "give a larger training.epochs"


def _command(name: str, config: Path) -> str:
    return f"python train.py {name} --config {config} --ckpt_path"
