"""Whether the score that a fit watches will be there."""

from lightning.pytorch import Trainer

from cli.vocabulary import Training
from errors import LoupeError, unknown
from lightning_modules import LoupeModule

__all__ = ["check_monitor"]


def check_monitor(training: Training, model: LoupeModule, trainer: Trainer) -> None:
    """LoupeError where `training.monitor` names what nobody logs, or what this trainer leaves out."""
    monitor = training.monitor
    of_a_class = tuple(f"val/{score}_per_class/" for score in model.class_score_names)
    if monitor not in model.logged_names and not monitor.startswith(of_a_class):
        raise unknown("training.monitor", monitor, model.logged_names)
    if monitor.startswith("val/") and trainer.limit_val_batches == 0:
        raise LoupeError(
            f"training.monitor '{monitor}' needs validation, but trainer.limit_val_batches is 0; "
            f"use training.monitor=train/loss"
        )
    every, epochs = trainer.check_val_every_n_epoch or 1, trainer.max_epochs or 1
    if monitor.startswith("val/") and every > epochs:
        raise LoupeError(
            f"training.monitor '{monitor}' needs validation, but trainer.check_val_every_n_epoch is {every} and "
            f"training.epochs is {epochs}; use training.monitor=train/loss"
        )
