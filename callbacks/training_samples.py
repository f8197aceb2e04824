"""The first training samples as the network sees them, so that a wrong augmentation is seen."""

from functools import partial
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image
from torch import Tensor

from callbacks.idle_hooks import set_aside
from callbacks.picture_loggers import log_picture
from callbacks.samples_on_show import SHOWN_KEYS, paths_of, short_name
from callbacks.shown_samples import as_shown
from figures import draw_sheet

__all__ = ["TrainingSamples"]


class TrainingSamples(Callback):
    """Logs ``pictures/augmented`` once: the first samples of the run after augmentation, MixUp and CutMix.

    Args:
        shown: So many, from the first batch of the first process.
    """

    def __init__(self, shown: int) -> None:
        self.shown = shown

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Draw the first batch of the run."""
        set_aside(self, "on_train_batch_start")
        if batch_idx == 0 and trainer.global_step == 0 and trainer.current_epoch == 0:
            draw = partial(self._draw, trainer, pl_module, batch)
            log_picture(trainer, "pictures/augmented", draw, part="train")

    def _draw(self, trainer: Trainer, pl_module: Any, batch: dict[str, Tensor]) -> Image.Image:
        chosen = torch.nonzero(batch["valid"].cpu())[: self.shown, 0].tolist()
        paths = paths_of(trainer.datamodule, "train")  # pyright: ignore[reportAttributeAccessIssue]
        names = list(pl_module.class_names)
        columns = {key: batch[key].detach().cpu() for key in SHOWN_KEYS if key in batch}
        samples = [{key: column[at] for key, column in columns.items()} for at in chosen]
        shown = [as_shown(sample, names, short_name(paths[int(sample["index"])])) for sample in samples]
        return draw_sheet(shown, names, title="training samples, augmented, as the network sees them")
