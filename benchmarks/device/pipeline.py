"""Training from JPEG files: images a second as a share of what the device takes, and the cores that would be needed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback

from benchmarks.device.clock import wait
from benchmarks.device.jpegs import HEIGHT, WIDTH, write_jpegs
from benchmarks.device.settings import Case, Settings
from benchmarks.timing import command
from datamodules.workers import count_workers, usable_cores

WANTED = 0.95
ROUNDS = 4
"""Batches of each worker in an epoch."""


def pipeline(settings: Settings, case: Case, *, device_images_per_s: float) -> dict[str, Any]:
    """`fit` from JPEG files with the workers that Loupe chooses, with one, and with as many as cores less one.

    Args:
        device_images_per_s: What `fit` reaches with its batches on the device.
    """
    chosen, most = count_workers("auto"), max(1, usable_cores() - 1)
    root, began = settings.work / "jpegs", time.perf_counter()
    count = max(chosen, most) * ROUNDS * case.batch
    mean_bytes = write_jpegs(root, count, processes=1 if settings.tiny else usable_cores())
    files = {
        "count": count,
        "size_px": [WIDTH, HEIGHT],
        "mean_bytes": mean_bytes,
        "written_s": round(time.perf_counter() - began, 1),
    }
    found = {
        workers: _from_files(settings, case, root, workers) for workers in sorted({1, chosen or 1, most})
    }
    needed, one = WANTED * device_images_per_s, found[1]
    cores = needed / one + 1
    return {
        "files": files,
        "workers_chosen": chosen,
        "images_per_s_by_workers": {str(workers): round(speed, 1) for workers, speed in found.items()},
        "device_images_per_s": device_images_per_s,
        "share": found[chosen or 1] / device_images_per_s,
        "best_share": max(found.values()) / device_images_per_s,
        "wanted_share": WANTED,
        "cores": usable_cores(),
        "cores_it_would_take": round(cores, 1),
        "arithmetic": (
            f"{WANTED} * {device_images_per_s:.0f} images/s / {one:.1f} images/s of one worker "
            f"+ 1 for the training = {cores:.1f} cores"
        ),
    }


class _Speed(Callback):
    """Images a second of the second epoch.

    Workers begin together, so batches come as many at a time as there are workers. From the end of the first such round
    to the end of the last the time is that of whole rounds.
    """

    def __init__(self, device: torch.device, batch: int, workers: int) -> None:
        self.device, self.batch, self.workers = device, batch, workers
        self.began, self.images_per_s = 0.0, 0.0

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.current_epoch and batch_idx == self.workers - 1:
            wait(self.device)
            self.began = time.perf_counter()
        elif trainer.current_epoch and trainer.is_last_batch:
            wait(self.device)
            steps = batch_idx + 1 - self.workers
            self.images_per_s = self.batch * steps / (time.perf_counter() - self.began)


def _from_files(settings: Settings, case: Case, root: Path, workers: int) -> float:
    """Images a second with so many workers; the first epoch starts them and compiles."""
    clock = _Speed(settings.device, case.batch, workers)
    words = [word for word in case.words if not word.startswith("--data.dataset")]
    flags = [
        *words,
        f"--data.root={root}",
        *settings.trainer,
        *settings.precision,
        "--training.compile=true",
        "--training.epochs=2",
        "--training.monitor=train/loss",
        f"--trainer.limit_train_batches={workers * ROUNDS}",
        "--trainer.limit_val_batches=0",
        f"--data.loader.num_workers={workers}",
    ]
    with settings.folder("pipeline"):
        command(["fit", *flags], clock)
    torch.compiler.reset()
    return clock.images_per_s
