"""Where in the training data a fit goes on after an interruption."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import lightning.pytorch as pl

from errors import LoupeError

__all__ = ["Cut", "ResumePoint"]


@dataclass(frozen=True)
class Cut:
    """What decides which pictures an epoch has, in which order, and how it is cut into batches."""

    batch_size: int
    accumulate: int
    processes: int
    pictures: int
    seed: int
    sampling: str
    mixes: bool


@dataclass(frozen=True)
class ResumePoint:
    """The batch that comes next.

    Args:
        epoch: zero-based.
        batch: batches of this epoch that each process has had.
    """

    epoch: int = 0
    batch: int = 0

    @classmethod
    def of(cls, trainer: pl.Trainer) -> "ResumePoint":
        """Where a fit stands between two batches; before the validation at an epoch's end, behind its last one."""
        epoch: Any = trainer.fit_loop.epoch_progress.current
        batches: Any = trainer.fit_loop.epoch_loop.batch_progress.current
        done = batches.processed
        over = done >= trainer.num_training_batches and not trainer.validating
        return cls(epoch.completed + 1, 0) if over else cls(epoch.completed, done)

    def state(self, cut: Cut) -> dict[str, Any]:
        """Plain values for the checkpoint."""
        return {"epoch": self.epoch, "batches_done": self.batch, **asdict(cut)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], cut: Cut) -> "ResumePoint":
        """What `state` wrote; LoupeError where the epoch was left in the middle and is cut into other batches now."""
        now = asdict(cut)
        changed = [key for key in now if state.get(key) != now[key]]
        if state.get("batches_done") and changed:
            was = ", ".join(f"{key} {state.get(key)} -> {now[key]}" for key in changed)
            raise LoupeError(
                f"--ckpt_path: the checkpoint lies within an epoch, whose batches would be others now ({was}); "
                f"resume with the same numbers, or from the end of an epoch"
            )
        return cls(int(state.get("epoch", 0)), int(state.get("batches_done", 0)))

    def start(self, current_epoch: int) -> "ResumePoint":
        """Where a loader that is made in `current_epoch` starts: here, or with a later epoch's first batch.

        Not simply "here for the first loader": Lightning makes one to count the steps while it still believes itself
        in epoch 0, and under reload_dataloaders_every_n_epochs throws it away once it knows better.
        """
        return self if current_epoch <= self.epoch else ResumePoint(current_epoch)
