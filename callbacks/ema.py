"""The running average of the weights (`training.ema`)."""

import warnings
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

__all__ = ["ExponentialMovingAverage"]


class ExponentialMovingAverage(WeightAveraging):
    """Averages the weights after each optimizer step; validation, checkpoints and the end use the average.

    ``average = d * average + (1 - d) * weights`` with ``d = min(decay, (1 + n) / (10 + n))`` after n updates
    (the ramp of TensorFlow's ExponentialMovingAverage), so that short runs are not held at their start. Buffers such
    as batch-norm means are copied: averaged as well they would lag behind by 1 / (1 - decay) steps.
    """

    def __init__(self, decay: float = 0.999) -> None:
        def average(averaged: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
            ramp = min(decay, (1 + float(count)) / (10 + float(count)))
            return averaged.lerp(current.to(averaged.dtype), 1 - ramp)

        super().__init__(use_buffers=False, avg_fn=average)
        self.decay = decay
        self._swapped = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Build the average beside the model."""
        with warnings.catch_warnings():
            # Nothing of ours is sharded, so building the layers early costs nothing.
            warnings.filterwarnings(
                "ignore", message=".*WeightAveraging callback with a model that overrides.*"
            )
            if stage == "fit" and str(trainer.precision) == "64-true":
                # Built as Lightning would: an average in float32 would round the weights that it is swapped with.
                with trainer.precision_plugin.module_init_context():
                    pl_module.configure_model()
            super().setup(trainer, pl_module, stage)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Move the average to where the weights are: Lightning builds it before they go to their device (2.6)."""
        if self._average_model is not None:
            self._average_model.to(pl_module.device)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Put the weights back where a validation had the average in their place: a checkpoint may be made now."""
        if self._swapped:
            self._swap_models(pl_module)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Store the average as the weights, and the weights beside it, while a fit is running."""
        if self._average_model is not None:
            super().on_save_checkpoint(trainer, pl_module, checkpoint)

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take both back when a fit goes on."""
        if self._average_model is not None:
            super().on_load_checkpoint(trainer, pl_module, checkpoint)

    def _swap_models(self, pl_module: LightningModule) -> None:
        super()._swap_models(pl_module)
        self._swapped = not self._swapped
