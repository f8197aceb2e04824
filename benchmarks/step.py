"""What a step costs beside its arithmetic: Loupe's `fit` as it is by default, a bare Trainer, and a plain loop.

    python benchmarks/step.py [--backbone lcnet_035] [--size 32] [--batch 4] [--steps 300] [--rounds 3]

The same network from the same weights, the same batches (made once, kept in memory), the same loss, optimizer and
precision. Loupe's fit has all that it has by default: bar, TensorBoard, checkpoints, scores, the check for NaN, figures
of speed. The bare Trainer has no callback, no logger and no bar. After every ten steps of either, the plain loop makes
ten; what is told are medians of the differences, on a CPU of the time of the process. The network is small on purpose:
what is left of the step is the overhead.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import statistics
import sys
import tempfile
from functools import partial
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
    in_turn,
    keep,
    seconds,
    settings,
)
from datamodules import ClassificationDataModule  # noqa: E402
from models import create_model  # noqa: E402
from optim import create_optimizer  # noqa: E402

EPOCHS = 2
WINDOW = 10
"""Steps."""


class KeptData(ClassificationDataModule):
    """Loupe's own data, its training batches taken from memory."""

    steps = 200
    batches: ClassVar[list[Any]] = []

    def train_dataloader(self) -> Any:
        if not KeptData.batches:
            KeptData.batches = list(super().train_dataloader())[:8]
        return KeptBatches(KeptData.batches, KeptData.steps)


class Windows(Callback):
    """Windows of steps, each followed by one of a plain loop: what drifts meets both.

    Attributes:
        fit_ms: A step of each window of the fit, milliseconds.
        loop_ms: A step of the window of the loop after it.
    """

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.fit_ms: list[float] = []
        self.loop_ms: list[float] = []
        self._began = 0.0

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if not trainer.current_epoch or batch_idx % WINDOW:
            return  # the first epoch warms up
        now = seconds()
        if batch_idx:
            self.fit_ms.append(1000 * (now - self._began) / WINDOW)
        self.loop_ms.append(1000 * self.loop.window() / WINDOW)
        self._began = seconds()

    @property
    def over_loop_ms(self) -> float:
        """What a step of the fit takes more, the median over the windows."""
        return statistics.median(fit - loop for fit, loop in zip(self.fit_ms, self.loop_ms, strict=False))


def loupe(words: list[str], windows: Callback) -> None:
    """`fit` as it is by default."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        command(["fit", *words], windows)


class Loop:
    """A plain loop over the kept batches."""

    def __init__(self, backbone: str, classes: int) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.network = _network(backbone, classes).to(self.device).train()
        self.optimizer = create_optimizer(self.network, learning_rate=1e-3)

    def window(self) -> float:
        """Seconds of so many steps."""
        began = seconds()
        for batch in KeptBatches(KeptData.batches, WINDOW):
            moved = {k: v.to(self.device, non_blocking=True) for k, v in batch.items() if torch.is_tensor(v)}
            self.optimizer.zero_grad()
            _loss(self.network, moved).backward()
            self.optimizer.step()
        return seconds() - began


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


def bare(backbone: str, classes: int, steps: int, windows: Callback) -> None:
    """A Trainer with nothing."""
    off = dict.fromkeys(
        ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )
    trainer = pl.Trainer(max_epochs=EPOCHS, callbacks=[windows], accelerator="auto", devices=1, **off)  # pyright: ignore
    trainer.fit(Bare(_network(backbone, classes)), KeptBatches(KeptData.batches, steps))


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
    loupe(words, Callback())  # makes the batches, and warms up
    classes = 1 + int(max(int(batch["label"].max()) for batch in KeptData.batches))
    seen: dict[str, list[Windows]] = {"fit": [], "bare": []}

    def timed(name: str) -> float:
        windows = Windows(Loop(given.backbone, classes))
        seen[name].append(windows)
        if name == "fit":
            loupe(words, windows)
        else:
            bare(given.backbone, classes, given.steps, windows)
        return windows.over_loop_ms

    with contextlib.redirect_stderr(io.StringIO()):
        found = in_turn({name: partial(timed, name) for name in seen}, given.rounds)
    over = {name: statistics.median(values) for name, values in found.items()}
    fits = [ms for windows in seen["fit"] for ms in windows.fit_ms]
    loops = [ms for windows in seen["fit"] for ms in windows.loop_ms]
    medians = {"fit": statistics.median(fits), "loop": statistics.median(loops)}
    share = 1 + over["fit"] / medians["loop"]
    print(f"{given.backbone} {given.size} px, batches of {given.batch}, {given.rounds} rounds: ms a step")
    print(f"  fit {medians['fit']:.2f}, the loop between its windows {medians['loop']:.2f} ({share:.3f})")
    for name, values in found.items():
        print(f"  {name} - loop {over[name]:+.2f} ms ({min(values):+.2f} to {max(values):+.2f})")
    print(f"  fit - bare {over['fit'] - over['bare']:+.2f} ms")
    keep(
        "step" if given.backbone == "lcnet_035" else f"step_{given.backbone}",
        {
            "fit_over_bare_ms": over["fit"] - over["bare"],
            "fit_over_loop_ms": over["fit"],
            "fit / loop": share,
        },
        about={"settings": settings(given), "medians_ms": medians, "over_loop_ms": found},
        folder=given.out,
    )


if __name__ == "__main__":
    run(*arguments(__doc__, backbone="lcnet_035", size=32, batch=4, steps=300, rounds=3))
