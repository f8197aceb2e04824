"""As many threads to compute with as the worker processes leave cores: more of them wait for each other."""

from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

__all__ = ["ComputeThreads"]


class ComputeThreads(Callback):
    """Sets torch's threads where the CPU computes, for as long as the Trainer runs.

    torch alone takes a thread for each core, whatever reads the pictures beside it and whatever its container may use.
    Two threads on two cores, one of which was busy, trained 3 images/s where one thread trained 68. OMP_NUM_THREADS may
    make them fewer.

    Args:
        share: From the data's settings of its loader and the Trainer to the number of threads.
    """

    def __init__(self, share: Callable[[Any, Trainer], int]) -> None:
        self._share = share
        self._before: int | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Before anything is computed, in each process."""
        if trainer.strategy.root_device.type == "cpu":
            self._before = torch.get_num_threads()
            data: Any = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
            torch.set_num_threads(self._share(data.loader, trainer))

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """As it was."""
        self._restore()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """As it was: Lightning tears nothing down after an error."""
        self._restore()

    def _restore(self) -> None:
        if self._before is not None:
            torch.set_num_threads(self._before)
            self._before = None
