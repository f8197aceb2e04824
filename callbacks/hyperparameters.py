"""The settings of a run for the loggers that the user gave: Lightning sends them the model's and `training` alone."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only

from callbacks.event_files import RunTensorBoardLogger
from callbacks.metrics_csv import MetricsCSV
from callbacks.run_directory import RunDirectory

__all__ = ["Hyperparameters"]


class Hyperparameters(Callback):
    """Sends `data`, the seed, the model's class and the run directory to W&B, MLflow and whatever else is a logger.

    config.yaml has them all, and the text tab of our own TensorBoard.
    """

    def __init__(self, run: RunDirectory) -> None:
        self.run = run

    @rank_zero_only
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Send them, once all is found good."""
        config = self.run.config_dict
        settings: dict[str, Any] = {key: config.get(key) for key in ("data", "seed_everything")}
        settings["model_class"] = type(pl_module).__name__
        settings["run_directory"] = str(self.run.path.resolve())
        for logger in trainer.loggers:
            if not isinstance(logger, (MetricsCSV, RunTensorBoardLogger)):
                logger.log_hyperparams(settings)
