"""What `validate` costs beside the network: images a second of its batches, and of a loop that only asks the network.

    python benchmarks/evaluation.py [--config cls_mobilenetv3] [--size 128] [--batch 16] [--batches 40] [--rounds 5]

The same batches from memory, the same network and weights. `validate` also computes the loss, counts the scores and
keeps what the report shows; its time is from the first batch to the end of the last.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch  # noqa: E402
from lightning.pytorch import Callback  # noqa: E402

from benchmarks.timing import KeptBatches, arguments, command, in_turn, keep, ratios, seconds, settings  # noqa: E402
from datamodules import LoupeDataModule  # noqa: E402


class Clock(Callback):
    """Keeps the batches of the validation, and times one that has them again."""

    def __init__(self) -> None:
        self.batches: list[Any] = []
        self.module: Any = None
        self.took_s = 0.0
        self._began = 0.0

    def on_validation_batch_start(self, trainer: Any, module: Any, batch: Any, *args: Any) -> None:
        self.module = module
        if not self._began:
            self._began = seconds()
        self.batches.append(batch)

    def on_validation_batch_end(self, *args: Any) -> None:
        self.took_s = seconds() - self._began


def evaluated(words: list[str], batches: list[Any]) -> float:
    """Seconds of a validation of these batches, in place of what the files hold."""
    clock, loader = Clock(), LoupeDataModule.val_dataloader
    # one more than is asked for: Loupe refuses scores of a part that lacks samples
    LoupeDataModule.val_dataloader = lambda self: KeptBatches(batches, len(batches) + 1)  # pyright: ignore
    try:
        command(words, clock)
    finally:
        LoupeDataModule.val_dataloader = loader
    return clock.took_s


@torch.inference_mode()
def forward_only(module: Any, batches: list[Any]) -> float:
    """Seconds for the network's answers alone."""
    module.eval()
    began = seconds()
    for batch in batches:
        module(batch["image"])
    return seconds() - began


def run(given: argparse.Namespace, flags: list[str]) -> None:
    small = [
        f"--config={ROOT / 'configs' / given.config}.yaml",
        f"--data.image_size={given.size}",
        f"--training.batch_size={given.batch}",
        "--data.loader.num_workers=0",
        "--trainer.num_sanity_val_steps=0",
        *flags,
    ]
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        short = ("--training.epochs=1", "--trainer.limit_train_batches=1", "--trainer.limit_val_batches=1")
        command(["fit", *small, *short], Clock())
        words = ["validate", *small, "--ckpt_path=last", f"--trainer.limit_val_batches={given.batches}"]
        first = Clock()
        command(words, first)
        kept = [first.batches[number % len(first.batches)] for number in range(given.batches)]
        images = given.batch * given.batches
        found = in_turn(
            {
                "validate": lambda: evaluated(words, kept),
                "network": lambda: forward_only(first.module, kept),
            },
            given.rounds,
        )
    share = ratios(found, "network", "validate")["median"]
    speeds = {name: images / statistics.median(values) for name, values in found.items()}
    print(
        f"{given.config} {given.size} px, batches of {given.batch}: "
        + ", ".join(f"{k} {v:.1f}" for k, v in speeds.items())
    )
    print(f"  images/s of validate for one of the network alone: {share:.3f} (0.9 is wanted)")
    keep(
        f"evaluation_{given.config}",
        {"validate_speed": share},
        about={"settings": settings(given), "images_per_s": speeds},
        folder=given.out,
    )


if __name__ == "__main__":
    run(*arguments(__doc__, config="cls_mobilenetv3", size=128, batch=16, batches=40, rounds=5))
