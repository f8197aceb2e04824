"""How long training waited for pictures, as a share of its time."""

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only

__all__ = ["DataTime"]

_WORTH_TELLING = 0.2


class DataTime(Callback):
    """Logs ``train/data_time``, seconds spent in asking the loader for batches / seconds of the epoch's training.

    Validation does not count. Above 20 % a hint is printed, once; not for the first of several epochs, in which worker
    processes start and caches are empty. What the loader knows of its waiting it tells as ``waited_s``.
    """

    def __init__(self) -> None:
        self._began = 0.0
        self._waited_before = 0.0
        self._paused = 0.0
        self._taken = 0.0
        self._told = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of an epoch that goes on: Lightning does not start it once more."""
        self.on_train_epoch_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._began, self._taken = time.perf_counter(), 0.0
        self._waited_before = _waited(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Hold it, within an epoch too."""
        self._paused = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let it go on."""
        self._began += time.perf_counter() - self._paused

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop it, as long as no other batch comes."""
        self._taken = time.perf_counter() - self._began

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the share, and say what helps where it is large."""
        if self._taken <= 0 or not hasattr(trainer.train_dataloader, "waited_s"):
            return
        share = min(1.0, (_waited(trainer) - self._waited_before) / self._taken)
        pl_module.log("train/data_time", share)
        first_of_several = trainer.current_epoch == 0 and (trainer.max_epochs or 2) > 1
        if share > _WORTH_TELLING and not first_of_several and not self._told:
            self._told = True
            _tell(share, trainer.train_dataloader.num_workers)  # pyright: ignore[reportOptionalMemberAccess]


def _waited(trainer: Trainer) -> float:
    return float(getattr(trainer.train_dataloader, "waited_s", 0.0))


@rank_zero_only
def _tell(share: float, workers: int) -> None:
    print(
        f"note: {share:.0%} of the training time goes into waiting for pictures; more data.loader.num_workers (now "
        f"{workers}), data.loader.cache=disk or a lighter data.augment.preset help",
        flush=True,
    )
