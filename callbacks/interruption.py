"""SIGTERM and Ctrl-C: granted between two optimizer steps, with the state saved."""

import os
import signal
import threading
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import SIGTERMException

__all__ = ["Interruption", "exit_code"]

#: The request that this process has received; signals belong to the process, and so does this.
_received: signal.Signals | None = None

#: Validation batches between two looks at whether another process was asked to end.
_EVERY = 10


def exit_code() -> int:
    """128 plus the signal that ended the run, as shells say it: 143 for SIGTERM, 130 for Ctrl-C."""
    return 128 + int(_received or signal.SIGTERM)


class Interruption(Callback):
    """Ends a fit after the step at hand, on all processes after the same one; `RunCheckpoint` then saves it.

    Lightning's own way (2.6) ends between two micro-batches as well, and under DDP has one process leave while the
    others wait. A second Ctrl-C ends at once, without a save.
    """

    def __init__(self) -> None:
        self._handlers: dict[signal.Signals, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the signals over from Lightning."""
        global _received
        asked = trainer.received_sigterm
        _received = signal.SIGTERM if asked else None
        trainer._signal_connector.received_sigterm = False  # pyright: ignore[reportPrivateUsage]
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._handlers[number] = signal.signal(number, self._receive)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Grant a request before the first micro-batch of a step."""
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self._grant(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Grant a request before a validation."""
        if not trainer.sanity_checking and _between_steps(trainer):
            self._grant(trainer)

    def on_validation_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Grant a request within one: it will be done again."""
        if trainer.sanity_checking or not _between_steps(trainer):
            return
        if trainer.world_size == 1 or batch_idx % _EVERY == 0:
            self._grant(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """There is nothing left to save."""
        self._hand_back()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """The run ends anyway."""
        self._hand_back()

    def _receive(self, number: int, frame: FrameType | None) -> None:
        global _received
        if number == signal.SIGINT and _received is not None:
            raise KeyboardInterrupt
        _received = signal.Signals(number)
        if number == signal.SIGINT and not int(os.environ.get("LOCAL_RANK") or 0):
            # print() could be in the middle of its own work
            os.write(2, b"\nstopping after this step, with the state saved; Ctrl-C again stops at once\n")

    def _grant(self, trainer: Trainer) -> None:
        asked = _received is not None
        if trainer.world_size > 1:
            asked = trainer.strategy.reduce_boolean_decision(asked, all=False)
        if asked:
            raise SIGTERMException

    def _hand_back(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}


def _between_steps(trainer: Trainer) -> bool:
    """Whether no gradients are held: trainer.val_check_interval may ask for a validation between two micro-batches."""
    batches: Any = trainer.fit_loop.epoch_loop.batch_progress
    return batches.is_last_batch or batches.current.ready % trainer.accumulate_grad_batches == 0
