"""Early stopping that waits for the warm-up and can leave the best weights in the model."""

from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping

from callbacks.checkpoint import RunCheckpoint
from errors import LoupeError

__all__ = ["WarmupAwareEarlyStopping"]


class WarmupAwareEarlyStopping(EarlyStopping):
    """Ends the run after ``patience`` epochs without an improvement of more than ``min_delta`` (absolute).

    Args:
        monitor: The score's key.
        mode: min or max.
        measure: What makes a score comparable with that of an earlier part of the run.
        patience: Epochs.
        min_delta: Smallest change that counts.
        warmup_epochs: Not counted before so many epochs are done.
        restore_from: The checkpoints whose best weights the model gets at the end; None leaves the last ones.
    """

    def __init__(
        self,
        monitor: str,
        *,
        mode: str,
        measure: str = "",
        patience: int,
        min_delta: float = 0.0,
        warmup_epochs: float = 0.0,
        restore_from: RunCheckpoint | None = None,
    ) -> None:
        super().__init__(
            monitor,
            mode=mode,
            patience=patience,
            min_delta=min_delta,
            check_on_train_epoch_end=True,
            # A score that is not a number is no improvement, and no reason to stop: there was nothing to judge.
            check_finite=False,
        )
        self.measure = measure or monitor
        self.warmup_epochs = warmup_epochs
        self.restore_from = restore_from

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A run that was over stays so, unless it is to wait longer now."""
        if self.wait_count >= self.patience:
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Judge the epoch once the warm-up is over, unless it had no validation and so no score of its own."""
        fresh = pl_module.has_fresh(self.monitor)  # pyright: ignore[reportCallIssue]
        if fresh and trainer.current_epoch + 1 >= self.warmup_epochs:
            super().on_train_epoch_end(trainer, pl_module)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting, unless another score or another loss is watched now; the patience is this run's."""
        if state_dict.get("measure") == self.measure:
            counts = {name: int(state_dict[name]) for name in ("wait_count", "stopped_epoch")}
            best = state_dict["best_score"].reshape(())
            super().load_state_dict({**counts, "best_score": best, "patience": self.patience})

    def state_dict(self) -> dict[str, Any]:
        """Lightning's, and what is measured."""
        return {**super().state_dict(), "measure": self.measure}

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Load the best weights: the first process reads them, on whose disk they are, and the others get them."""
        if self.restore_from is None:
            return
        path, problem = self.restore_from.best_model_path, ""
        if trainer.is_global_zero and path:
            try:
                checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
                pl_module.load_state_dict(checkpoint["state_dict"])
            except (OSError, RuntimeError) as error:
                problem = f"the best weights cannot be restored from {path}: {error}"
        # Whether there is a file the first process alone knows, and all must do the same.
        path, problem = trainer.strategy.broadcast((path, problem))
        if problem:
            raise LoupeError(problem)
        if path and trainer.world_size > 1:
            for tensor in pl_module.state_dict().values():
                whole = tensor.contiguous()  # channels-last weights are not, and gloo wants them so
                dist.broadcast(whole, src=0)
                tensor.copy_(whole)
