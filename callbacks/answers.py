"""Evaluation and prediction with what `inference` asks for: test-time augmentation, an ensemble, tiles."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from inference.options import Inference
from inference.response import create_response

__all__ = ["Answers"]


class Answers(Callback):
    """Puts what answers in the network's place into the module while it is evaluated or predicts, and takes it out.

    Not in a fit: what is trained is watched as it is. Tiles want whole pictures, which the datamodule gives where its
    ``view.scale`` is set before its loaders are made.

    Args:
        options: The section `inference`.
    """

    def __init__(self, options: Inference) -> None:
        self.options = options

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The weights are those of the checkpoint by now."""
        if trainer.state.fn != "fit":
            self._begin(pl_module)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """As in a validation."""
        self._begin(pl_module)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """As in a validation."""
        self._begin(pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The network answers again."""
        if trainer.state.fn != "fit":
            self._end(pl_module)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """As after a validation."""
        self._end(pl_module)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """As after a validation."""
        self._end(pl_module)

    def _begin(self, module: Any) -> None:
        module.answer_with(create_response(module, self.options, device=module.device))

    def _end(self, module: Any) -> None:
        module.answer_with(None)
