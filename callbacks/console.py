"""What the terminal shows: one line an epoch where there is no progress bar, and the closing table."""

import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch.nn import BatchNorm1d, BatchNorm2d, BatchNorm3d

from callbacks.checkpoint import RunCheckpoint
from callbacks.run_directory import RunDirectory

__all__ = ["ClosingTable", "EpochLines", "OpeningSummary"]


class EpochLines(Callback):
    """One line an epoch, for logs and pipes: epoch, seconds, losses, the monitored score, learning rate."""

    def __init__(self, monitor: str) -> None:
        self.monitor = monitor
        self._began = time.monotonic()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._began = time.monotonic()

    @rank_zero_only
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the line."""
        metrics = trainer.callback_metrics
        fresh: Callable[[str], bool] = pl_module.has_fresh  # pyright: ignore[reportAssignmentType]
        names = [name for name in dict.fromkeys(["train/loss", "val/loss", self.monitor]) if fresh(name)]
        figures = "  ".join(f"{name} {float(metrics[name]):.4f}" for name in names if name in metrics)
        seconds = time.monotonic() - self._began
        print(
            f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  {seconds:.1f} s  {figures}", flush=True
        )


class OpeningSummary(Callback):
    """Before the first step: data, model, how it is trained, and where the run is kept."""

    def __init__(self, run: RunDirectory, training: dict[str, Any]) -> None:
        self.run = run
        self.training = training

    @rank_zero_only
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print a few lines."""
        data = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        lines: list[str] = data.describe() if hasattr(data, "describe") else []
        total = sum(p.numel() for p in pl_module.parameters())
        trainable = sum(p.numel() for p in pl_module.parameters() if p.requires_grad)
        frozen = f", {(total - trainable) / 1e6:.2f} M of them frozen" if trainable < total else ""
        name = type(pl_module).__name__
        training = self.training
        steps = round(trainer.num_training_batches / trainer.accumulate_grad_batches)
        device = f"{trainer.world_size} x {trainer.strategy.root_device.type}"
        lines = [
            *lines,
            f"model: {name}, {total / 1e6:.2f} M parameters{frozen}",
            f"training: {trainer.max_epochs} epochs of {steps} steps of {training['batch_size']} images, "
            f"{training['optimizer']['type']} {training['learning_rate']:g}, loss {training['loss']['type']}, "
            f"{trainer.precision} on {device}",
            *_where_it_goes_on(trainer, pl_module),
            *_class_weights(pl_module, training["loss"]),
            f"run: {self.run.path}" if self.run.claimed else "run: nothing is kept (fast_dev_run)",
        ]
        norms = any(isinstance(m, (BatchNorm1d, BatchNorm2d, BatchNorm3d)) for m in pl_module.modules())
        if trainer.world_size > 1 and norms:
            lines.append(
                f"note: batch norm sees the images of each process alone ({training['batch_size']} / "
                f"{trainer.world_size}); only CUDA can share them, so scores differ from one process's"
            )
        if trainer.accumulate_grad_batches > 1:
            lines += _not_exact(pl_module, training["batch_size"], trainer.accumulate_grad_batches)
        print("", *(f"  {line}" for line in lines), "", sep="\n", flush=True)


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
        minutes, seconds = divmod(round(time.monotonic() - self._began), 60)
        rows.append(("time", f"{minutes} min {seconds} s"))
        rows.append(("run", str(self.run.path)))
        config = self.run.path / "config.yaml"
        if kept is not None:
            rows.append(("test", f"{_command('test', config)} best"))
            rows.append(("predict", f"{_command('predict', config)} best --data.predict_path FOLDER"))
        width = max(len(name) for name, _ in rows)
        print(
            "",
            *(f"  {name:<{width}}  {text}" for name, text in rows),
            "",
            sep="\n",
            file=sys.stdout,
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


def _not_exact(module: LightningModule, batch_size: int, micro_batches: int) -> list[str]:
    """A warning where the loss of a step is not the sum of what its micro-batches make."""
    criterion: Any = getattr(module, "criterion", None)
    if getattr(criterion, "adds_up", True):
        return []
    parts = getattr(criterion, "losses", [criterion])
    names = " and ".join(dict.fromkeys(part.name for part in parts if not part.adds_up))
    return [
        f"warning: training.loss {names} is a ratio over the pictures it sees at once: the mean over the "
        f"{micro_batches} micro-batches of a step is not exactly that of its {batch_size} images; "
        "per_image: true would be exact"
    ]


def _where_it_goes_on(trainer: Trainer, pl_module: LightningModule) -> list[str]:
    """A line for a run that goes on: from where, and what the schedule makes of it."""
    if trainer.global_step == 0:
        return []
    done = trainer.fit_loop.epoch_loop.batch_progress.current.completed
    batches = trainer.num_training_batches
    within = ""
    if trainer.fit_loop.restarting and done:
        within = ", before its validation" if done >= batches else f", batch {done + 1} of {batches}"
    schedule: Any = pl_module.schedule
    return [
        f"goes on: after {trainer.global_step} steps, in epoch {trainer.current_epoch + 1}{within}; the learning rate "
        f"of the next step is {schedule.get_last_lr()[-1]:.4g}, that of the last was {float(pl_module.used_rate):.4g}"  # pyright: ignore[reportArgumentType]
    ]


def _class_weights(module: LightningModule, loss: dict[str, Any]) -> list[str]:
    """A line for each part of the loss whose weights were worked out from the data."""
    criterion: Any = getattr(module, "criterion", None)
    parts = [(loss, criterion), *zip(loss.get("losses", []), getattr(criterion, "losses", []), strict=False)]
    names = list(getattr(module, "class_names", None) or [])
    lines: list[str] = []
    for options, built in parts:
        if built is not None and isinstance(options.get("class_weight"), str):
            listed = [f"{n} {w:.3g}" for n, w in zip(names, built.class_weight.tolist(), strict=False)]
            more = ", ..." if len(listed) > 8 else ""
            lines.append(f"class weights ({options['class_weight']}): {', '.join(listed[:8])}{more}")
    return lines
