"""How long an epoch takes and what is left of the run, from the steps that were measured."""

import sys
import time
from collections import deque
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Timer

from callbacks.terminal import is_live, labelled, spoken_time

__all__ = ["TimeEstimate"]

#: Batches that are not measured: the first ones compile, choose algorithms and wait for workers to start.
_WARM_UP = 3
#: What is measured before anything is told: batches, and seconds.
_ENOUGH, _ENOUGH_S = 5, 2.0
#: In a pipe the line is worth reading only where one waits for it, seconds an epoch.
_WORTH_TELLING_S = 30.0
#: The newest stretch that counts, seconds, and how often it is looked at.
_RECENT_S, _MARK_S = 60.0, 0.5


class TimeEstimate(Callback):
    """Measures a fit, prints one line once an epoch's time is known, and tells a progress bar what is left.

    The first batches do not count. A validation counts as soon as one is known: from the sanity check, scaled up to the
    whole part, or from an earlier epoch. What an epoch costs beside its batches and validations (checkpoints, loggers,
    pictures) counts from the second epoch on. Early stopping may end a run before.
    """

    def __init__(self) -> None:
        self.validation_s: float | None = None
        self.overhead_s = 0.0
        self._told = False
        self._seen = 0  # batches of this process
        self._trained_s = 0.0  # the training clock: in epochs, less validations
        self._running_since: float | None = None
        self._validated_s = 0.0  # in this epoch
        self._pause_began = 0.0
        self._epoch_began: tuple[float, float, int] | None = None  # time, training clock, batches seen
        self._marks: deque[tuple[float, int]] = deque()  # training clock, batches seen

    @property
    def batch_s(self) -> float | None:
        """Seconds of training a batch, over the last minute; None before it is known."""
        if len(self._marks) < 2:
            return None
        (began, first), (ended, last) = self._marks[0], self._marks[-1]
        return (ended - began) / (last - first) if last > first else None

    def epoch_s(self, trainer: Trainer) -> float | None:
        """Seconds of a whole epoch with its validations, as far as they are known."""
        batch_s = self.batch_s
        if batch_s is None:
            return None
        validation_s = _validations(trainer) * (self.validation_s or 0.0)
        return batch_s * trainer.num_training_batches + validation_s + self.overhead_s

    def left_s(self, trainer: Trainer, batch_idx: float) -> float | None:
        """Seconds until the run has made all its steps, ``batch_idx`` being the batch that has just ended."""
        whole = self.epoch_s(trainer)
        if whole is None:
            return None
        batches = max(1, trainer.num_training_batches)
        left = whole * max(0.0, _epochs_left(trainer) - (batch_idx + 1) / batches)
        if trainer.max_steps > 0:
            of_steps = (trainer.max_steps - trainer.global_step) * trainer.accumulate_grad_batches
            left = min(left, whole * of_steps / batches)
        timed = [timer.time_remaining() for timer in trainer.callbacks if isinstance(timer, Timer)]  # pyright: ignore[reportAttributeAccessIssue]
        return max(0.0, min([left, *(seconds for seconds in timed if seconds is not None)]))

    # -- measuring ----------------------------------------------------------------------------------------------

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of an epoch that goes on, of which Lightning does not call the start."""
        self._epoch_began, self._running_since = None, time.monotonic()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take what the epoch before cost beside its batches and validations, and start the next."""
        now = time.monotonic()
        self._hold(now if self._epoch_began is None else None)
        if self._epoch_began is not None:
            began, clock, _ = self._epoch_began
            self.overhead_s = max(0.0, now - began - (self._trained_s - clock) - self._validated_s)
        self._epoch_began = (now, self._trained_s, self._seen)
        self._validated_s, self._running_since = 0.0, now

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch; a mark is made twice a second."""
        self._seen += 1
        if not self._marks:
            if self._seen >= _WARM_UP:
                _wait_for_device(trainer)
                self._marks.append((self._clock(), self._seen))
            return
        clock = self._clock()
        if clock - self._marks[-1][0] < _MARK_S and batch_idx + 1 < trainer.num_training_batches:
            return
        first, first_seen = self._marks[0]
        enough = self._seen - first_seen >= _ENOUGH and clock - first >= _ENOUGH_S
        if enough and not self._told:
            _wait_for_device(trainer)
            clock = self._clock()
        self._marks.append((clock, self._seen))
        while len(self._marks) > 2 and clock - self._marks[0][0] > _RECENT_S:
            self._marks.popleft()
        if enough and not self._told:
            self._tell(trainer, batch_idx)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Hold the clock."""
        self._pause_began = time.monotonic()
        self._hold(self._pause_began)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let it go on, and remember what a validation takes."""
        now = time.monotonic()
        spent = now - self._pause_began
        if trainer.sanity_checking:
            some, every = sum(trainer.num_sanity_val_batches), sum(trainer.num_val_batches)
            self.validation_s = spent * every / some if some else None
            return
        self.validation_s = spent
        self._validated_s += spent
        self._running_since = now

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Hold the clock; where an epoch has too few batches to measure some of them, its end tells."""
        self._hold(time.monotonic())
        if self._told or self._epoch_began is None:
            return
        if self.batch_s is None:
            _, clock, seen = self._epoch_began
            self._marks = deque([(clock, seen), (self._trained_s, self._seen)])
        self._tell(trainer, trainer.num_training_batches - 1)

    def _clock(self) -> float:
        running = self._running_since
        return self._trained_s + (time.monotonic() - running if running is not None else 0.0)

    def _hold(self, now: float | None) -> None:
        if now is not None and self._running_since is not None:
            self._trained_s += now - self._running_since
        self._running_since = None

    # -- telling ------------------------------------------------------------------------------------------------

    def _tell(self, trainer: Trainer, batch_idx: float) -> None:
        epoch_s, left_s = self.epoch_s(trainer), self.left_s(trainer, batch_idx)
        self._told = True
        if epoch_s is None or left_s is None or not trainer.is_global_zero:
            return
        if left_s <= 0 or not (is_live(sys.stdout) or epoch_s > _WORTH_TELLING_S):
            return
        print(labelled(f"time: {self._in_words(trainer, epoch_s, left_s)}"), flush=True)

    def _in_words(self, trainer: Trainer, epoch_s: float, left_s: float) -> str:
        validated = self.validation_s is not None or not _validations(trainer)
        of = "an epoch" if validated else "an epoch before its validation"
        at_most = ", or less by early stopping" if trainer.early_stopping_callbacks else ""
        return f"about {spoken_time(epoch_s)} {of}, {spoken_time(left_s)} until the end of the run{at_most}"


def _validations(trainer: Trainer) -> float:
    """How many validations an epoch has, on the average."""
    if not trainer.enable_validation:
        return 0.0
    every = trainer.check_val_every_n_epoch or 1
    within = max(1.0, trainer.num_training_batches // max(1, trainer.val_check_batch or 1))
    return within / every


def _epochs_left(trainer: Trainer) -> float:
    """Epochs that are not over, the one at hand included."""
    epochs = trainer.max_epochs
    return max(0, epochs - trainer.current_epoch) if epochs is not None and epochs >= 0 else 1


def _wait_for_device(trainer: Trainer) -> None:
    """Twice in a fit: a GPU's steps are only begun when Python is done with them."""
    if trainer.strategy.root_device.type == "cuda":
        torch.cuda.synchronize(trainer.strategy.root_device)
