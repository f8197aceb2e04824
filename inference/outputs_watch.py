"""What a module's forward pass gave, for a callback that must not run it a second time."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils.hooks import RemovableHandle

__all__ = ["OutputsWatch"]


class OutputsWatch(Callback):
    """Keeps the outputs of the validation batch at hand.

    Attributes:
        outputs: Of the last forward pass; None before the first.
    """

    def __init__(self) -> None:
        self.outputs: Tensor | None = None
        self._handle: RemovableHandle | None = None

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at what the module gives."""

        def keep(_: Any, __: Any, outputs: Tensor) -> None:
            self.outputs = outputs.detach()

        self._handle = pl_module.register_forward_hook(keep)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look no more."""
        if self._handle is not None:
            self._handle.remove()
        self._handle = self.outputs = None
