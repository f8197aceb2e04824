"""What a calibrated segmenter says of the pixels of pictures as they are: that is where a threshold decides."""

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from inference.evidence import FOLDS, folds_of
from inference.outputs_watch import OutputsWatch
from inference.response import Response
from inference.views import Look
from lightning_modules import LoupeModule
from lightning_modules.original_mask import two_classes
from lightning_modules.restore import original_strips
from metrics import PixelSample

__all__ = ["original_pixels"]


def original_pixels(
    trainer: Trainer, module: LoupeModule, data: Any, checkpoint: str, temperature: float
) -> dict[str, Tensor]:
    """Validate once more, at the size of the pictures: ``yes no edges`` of `metrics.PixelSample`, over all processes.

    `predict` restores probabilities to a picture's size and decides there: a threshold that is best among the network's
    pixels may be a bad one among those. The log-odds are those after the temperature.

    Args:
        trainer: Its callbacks run as in any validation.
        module: One channel, or two classes; its calibration has no thresholds.
        data: The datamodule; its ``view`` is as it was afterwards.
        checkpoint: The file.
        temperature: Of the logits.
    """
    watch = _Watch(temperature)
    callbacks: list[Any] = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]
    callbacks.append(watch)
    full_size, data.view.full_size = data.view.full_size, True
    try:
        trainer.validate(module, datamodule=data, ckpt_path=checkpoint, verbose=False, weights_only=True)
    finally:
        callbacks.remove(watch)
        data.view.full_size = full_size
        module.answer_with(None)
    return watch.sample.compute()


class _Watch(OutputsWatch):
    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        module: Any = pl_module
        self.sample = PixelSample(2, per_picture=1, folds=FOLDS).to(pl_module.device)
        self._fold = folds_of(trainer.datamodule, "val")  # pyright: ignore[reportAttributeAccessIssue]
        module.answer_with(Response([(module.network, self.temperature)], [Look()], module.link))
        super().on_validation_start(trainer, pl_module)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Mapping[str, Tensor],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        module: Any = pl_module
        assert self.outputs is not None and len(self.outputs) == 1, "whole masks come one at a time"
        probs = two_classes(module.link.probs(self.outputs))[0]
        size, window = batch["size_hw_px"][0].tolist(), batch["window_px"][0].tolist()
        fold = self._fold(batch["index"])
        for top, rows in original_strips([(0, probs)], batch["to_original"][0], size, window):
            truth = batch["whole_mask"][:, top : top + rows.shape[1]]
            tiny = torch.finfo(rows.dtype).tiny
            logits = rows.clamp(min=tiny).log()[None]
            self.sample.update(logits, truth, batch["index"], batch["valid"], fold, draws=False)
