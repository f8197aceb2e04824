"""What a step costs beside its arithmetic: Loupe's `fit` as it is by default, a bare Trainer, and a plain loop.

    python benchmarks/step.py [--backbone lcnet_035] [--size 32] [--batch 4] [--steps 200] [--rounds 5]

The same network from the same weights, the same batches (made once, kept in memory), the same loss, optimizer and
precision. Loupe's fit has all that it has by default: bar, TensorBoard, checkpoints, scores, the check for NaN, figures
of speed. The bare Trainer has no callback, no logger and no bar. A step is the time from one batch to the next (on a
CPU that of the process), the median over the steps of the second epoch. The network is small on purpose: what is left
of the step is the overhead.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("OMP_NUM_THREADS", "1")

import lightning.pytorch as pl  # noqa: E402
import torch  # noqa: E402
from lightning.pytorch import Callback  # noqa: E402
from torch.nn import functional  # noqa: E402

from benchmarks.timing import (  # noqa: E402
    KeptBatches,
    arguments,
    command,
    differences,
    in_turn,
    keep,
    ratios,
    seconds,
    settings,
)
from datamodules import ClassificationDataModule  # noqa: E402
from models import create_model  # noqa: E402
from optim import create_optimizer  # noqa: E402

EPOCHS = 2


class KeptData(ClassificationDataModule):
    """Loupe's own data, its training batches taken from memory."""

    steps = 200
    batches: ClassVar[list[Any]] = []

    def train_dataloader(self) -> Any:
        if not KeptData.batches:
            KeptData.batches = list(super().train_dataloader())[:8]
        return KeptBatches(KeptData.batches, KeptData.steps)


class Clock(Callback):
    """When each batch of the last epoch began."""

    def __init__(self) -> None:
        self.began: list[float] = []

    def on_train_batch_start(self, trainer: Any, *args: Any) -> None:
        if trainer.current_epoch == EPOCHS - 1:
            self.began.append(seconds())

    @property
    def step_ms(self) -> float:
        return _median_ms(self.began)


def _median_ms(began: list[float]) -> float:
    return 1000 * statistics.median(b - a for a, b in pairwise(began))


def loupe(words: list[str]) -> float:
    """Median step of `fit`."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        command(["fit", *words], clock)
    return clock.step_ms


class Bare(pl.LightningModule):
    """The same arithmetic as a LightningModule, with nothing around it."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return _loss(self.network, batch)

    def configure_optimizers(self) -> Any:
        return create_optimizer(self.network, learning_rate=1e-3)


def _loss(network: torch.nn.Module, batch: Any) -> torch.Tensor:
    logits = network(batch["image"].contiguous(memory_format=torch.channels_last))
    return functional.cross_entropy(logits, batch["label"])


def _network(backbone: str, classes: int) -> torch.nn.Module:
    torch.manual_seed(0)
    made = create_model("classifier", num_classes=classes, encoder=backbone, weights=None)
    return made.to(memory_format=torch.channels_last)


def bare(backbone: str, classes: int, steps: int) -> float:
    """Median step of a Trainer with nothing."""
    clock = Clock()
    off = dict.fromkeys(
        ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )
    trainer = pl.Trainer(max_epochs=EPOCHS, callbacks=[clock], accelerator="auto", devices=1, **off)  # pyright: ignore
    trainer.fit(Bare(_network(backbone, classes)), KeptBatches(KeptData.batches, steps))
    return clock.step_ms


def loop(backbone: str, classes: int, steps: int) -> float:
    """Median step of a plain loop."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = _network(backbone, classes).to(device).train()
    optimizer = create_optimizer(network, learning_rate=1e-3)
    began: list[float] = []
    for epoch in range(EPOCHS):
        for batch in KeptBatches(KeptData.batches, steps):
            if epoch == EPOCHS - 1:
                began.append(seconds())
            moved = {k: v.to(device, non_blocking=True) for k, v in batch.items() if torch.is_tensor(v)}
            optimizer.zero_grad()
            _loss(network, moved).backward()
            optimizer.step()
    return _median_ms(began)


def run(given: argparse.Namespace, flags: list[str]) -> None:
    words = [
        f"--config={ROOT / 'configs' / 'cls_mobilenetv3.yaml'}",
        "--data.class_path=benchmarks.step.KeptData",
        "--data.dataset=shapes",
        f"--data.image_size={given.size}",
        "--data.loader.num_workers=0",
        f"--model.backbone={given.backbone}",
        "--model.weights=null",
        "--training.loss=categorical_crossentropy",
        f"--training.epochs={EPOCHS}",
        f"--training.batch_size={given.batch}",
        "--trainer.limit_val_batches=1",
        "--trainer.num_sanity_val_steps=0",
        *flags,
    ]
    sys.modules["benchmarks.step"] = sys.modules["__main__"]  # one KeptData, not two
    KeptData.__module__ = "benchmarks.step"
    KeptData.steps = given.steps
    loupe(words)  # makes the batches, and warms up
    classes = 1 + int(max(int(batch["label"].max()) for batch in KeptData.batches))
    calls: dict[str, Callable[[], float]] = {
        "fit": lambda: loupe(words),
        "bare": lambda: bare(given.backbone, classes, given.steps),
        "loop": lambda: loop(given.backbone, classes, given.steps),
    }
    with contextlib.redirect_stderr(io.StringIO()):
        found = in_turn(calls, given.rounds)
    medians = {name: statistics.median(values) for name, values in found.items()}
    over_bare, over_loop = differences(found, "fit", "bare"), differences(found, "fit", "loop")
    print(
        f"{given.backbone} {given.size} px, batches of {given.batch}: medians of {given.rounds} rounds, ms a step"
    )
    print("  " + ", ".join(f"{name} {value:.2f}" for name, value in medians.items()))
    print(
        f"  fit - bare {over_bare['median']:+.2f} ms ({over_bare['least']:+.2f} to {over_bare['most']:+.2f})"
    )
    print(
        f"  fit - loop {over_loop['median']:+.2f} ms, {100 * (ratios(found, 'fit', 'loop')['median'] - 1):+.1f} %"
    )
    keep(
        "step",
        {"fit_over_bare_ms": over_bare["median"], "fit_over_loop_ms": over_loop["median"]},
        about={"settings": settings(given), "medians_ms": medians},
        folder=given.out,
    )


if __name__ == "__main__":
    run(*arguments(__doc__, backbone="lcnet_035", size=32, batch=4, steps=200, rounds=5))
