"""A callback that says how fast a fit trains: images per second of each training epoch, validation not counted.

python train.py fit ... --trainer.callbacks+=benchmarks.throughput.Throughput
"""

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class Throughput(Callback):
    """Prints `images/s` for each epoch, from the first batch asked for to the end of the last step."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self.images, self.began = 0, time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the pictures; after the last batch print."""
        self.images += int(batch["valid"].sum())
        if trainer.is_last_batch:
            print(f"  training {self.images / (time.perf_counter() - self.began):.1f} images/s", flush=True)
