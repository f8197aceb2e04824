"""How fast training is, how long it waited for pictures, and the memory it took."""

import sys
import time
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only

__all__ = ["TrainingSpeed"]

_WORTH_TELLING = 0.2


class TrainingSpeed(Callback):
    """Logs once an epoch:

    ``train/data_time``: seconds spent in asking the loader for batches / seconds of the epoch's training;
    ``train/images_per_s``: pictures of all processes / seconds of the epoch's training;
    ``train/memory_gib``: the most that was taken, in GiB: of an accelerator's memory by tensors of this process in this
    epoch, on the CPU by the whole process so far.

    Validation does not count. Of an epoch that goes on, what this session did is counted. Above 20 % of waiting a hint
    is printed, once; not for the first of several epochs, in which worker processes start and caches are empty. What
    the loader knows of its waiting it tells as ``waited_s``.
    """

    def __init__(self) -> None:
        #: Pictures that this session has trained on, over all processes.
        self.images = 0
        self._began = 0.0
        self._waited_before = 0.0
        self._paused = 0.0
        self._taken = 0.0
        self._first_batch = 0
        self._told = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of an epoch that goes on: Lightning does not start it once more."""
        self.on_train_epoch_start(trainer, pl_module)
        self._first_batch = trainer.fit_loop.epoch_loop.batch_progress.current.completed

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._began, self._taken = time.perf_counter(), 0.0
        self._first_batch = 0
        if pl_module.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(pl_module.device)
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
        """Log all, and say what helps where the share of waiting is large."""
        if self._taken <= 0:
            return
        images = _pictures_seen(trainer, self._first_batch)
        self.images += images
        pl_module.log("train/images_per_s", images / self._taken)
        memory = _memory_gib(pl_module.device)
        if memory is not None:
            pl_module.log("train/memory_gib", memory)
        if not hasattr(trainer.train_dataloader, "waited_s"):
            return
        share = min(1.0, (_waited(trainer) - self._waited_before) / self._taken)
        pl_module.log("train/data_time", share)
        first_of_several = trainer.current_epoch == 0 and (trainer.max_epochs or 2) > 1
        if share > _WORTH_TELLING and not first_of_several and not self._told:
            self._told = True
            _tell(share, trainer.train_dataloader.num_workers)  # pyright: ignore[reportOptionalMemberAccess]


def _pictures_seen(trainer: Trainer, first_batch: int) -> int:
    """Over all processes, from this batch of the epoch on: by arithmetic, since a count would wait for the device."""
    data: Any = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
    each = data.loader.batch_size / trainer.accumulate_grad_batches
    last = trainer.fit_loop.epoch_loop.batch_progress.current.completed
    return round(min(last * each, len(data.train_paths)) - first_batch * each)


def _memory_gib(device: torch.device) -> float | None:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    if device.type == "cpu" and sys.platform != "win32":
        import resource

        unit = 1 if sys.platform == "darwin" else 2**10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
    return None


def _waited(trainer: Trainer) -> float:
    return float(getattr(trainer.train_dataloader, "waited_s", 0.0))


@rank_zero_only
def _tell(share: float, workers: int) -> None:
    print(
        f"note: {share:.0%} of the training time goes into waiting for pictures; more data.loader.num_workers (now "
        f"{workers}), data.loader.cache=disk or a lighter data.augment.preset help",
        flush=True,
    )
