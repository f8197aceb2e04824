"""What `validate` costs beside the network: images a second of its batches, and of a loop that only asks the network.

    python benchmarks/evaluation.py [--config cls_mobilenetv3] [--size 128] [--batch 16] [--batches 12] [--rounds 5]

The same batches from memory, the same network and weights. `validate` also computes the loss, counts the scores and
keeps what the report shows; its time is from the first batch to the end of the last.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch  # noqa: E402
from lightning.pytorch import Callback  # noqa: E402

import cli.app  # noqa: E402
from benchmarks.timing import KeptBatches, in_turn, keep, ratios  # noqa: E402
from cli import main  # noqa: E402


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
            self._began = _now()
        self.batches.append(batch)

    def on_validation_batch_end(self, *args: Any) -> None:
        self.took_s = _now() - self._began


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def command(words: list[str], batches: list[Any] | None = None) -> Clock:
    """One command; with ``batches`` these come in place of what the files hold."""
    clock, build = Clock(), cli.app.trainer_arguments

    def arguments(*args: Any, **kwargs: Any) -> dict[str, Any]:
        made = build(*args, **kwargs)
        return {**made, "callbacks": [*made["callbacks"], clock]}

    printed, loader = io.StringIO(), cli.app.LoupeDataModule.val_dataloader
    cli.app.trainer_arguments = arguments
    if batches is not None:  # one more than is asked for: Loupe refuses scores of a part that lacks samples
        cli.app.LoupeDataModule.val_dataloader = lambda self: KeptBatches(batches, len(batches) + 1)  # pyright: ignore
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            code = main(words)
    finally:
        cli.app.trainer_arguments, cli.app.LoupeDataModule.val_dataloader = build, loader
    if code:
        raise SystemExit(printed.getvalue())
    return clock


@torch.inference_mode()
def forward_only(module: Any, batches: list[Any]) -> float:
    """Seconds for the network's answers alone."""
    module.eval()
    began = _now()
    for batch in batches:
        module(batch["image"])
    return _now() - began


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
        command(
            [
                "fit",
                *small,
                "--training.epochs=1",
                "--trainer.limit_train_batches=1",
                "--trainer.limit_val_batches=1",
            ]
        )
        words = ["validate", *small, "--ckpt_path=last", f"--trainer.limit_val_batches={given.batches}"]
        first = command(words)
        kept = [first.batches[number % len(first.batches)] for number in range(given.batches)]
        images = given.batch * given.batches
        found = in_turn(
            {
                "validate": lambda: command(words, kept).took_s,
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
        about={"settings": vars(given), "images_per_s": speeds},
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default="cls_mobilenetv3")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--batches", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=5)
    arguments, rest = parser.parse_known_args()
    run(arguments, rest)
