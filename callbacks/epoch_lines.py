"""One line an epoch: all that a pipe shows of a training, and what stays on a terminal above its bar."""

import time
from collections.abc import Callable

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only

from callbacks.terminal import emphasised

__all__ = ["EpochLines"]


class EpochLines(Callback):
    """Prints an epoch's number, seconds, losses and the monitored score; none that is of an earlier epoch."""

    def __init__(self, monitor: str) -> None:
        self.monitor = monitor
        self._began = time.monotonic()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of an epoch that goes on: Lightning does not begin it once more."""
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
        epoch = emphasised(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}", "bold")
        print(f"{epoch}  {seconds:.1f} s  {figures}", flush=True)
