"""A real fit in this process, watched step by step: pictures on disk, the command line, and what a probe saw."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image
from torch import Tensor

import cli.app
from cli import main
from tests.boards import CLOCKED

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "configs" / "seg_unet.yaml"
SIZE = 32
#: A network of a few thousand weights, the same pictures in each epoch, and nothing beside the fit.
SMALL = (
    "--data.augment.preset=none",
    f"--data.image_size={SIZE}",
    "--data.loader.num_workers=0",
    "--training.epochs=1",
    "--training.batch_size=4",
    "--training.tensorboard=false",
    "--trainer.accelerator=cpu",
    "--trainer.num_sanity_val_steps=0",
)


def options(norm: str = "batch") -> str:
    return f"--model.options={{base_filters: 4, depth: 2, norm: {norm}}}"


def write_pictures(root: Path, counts: dict[str, int], *, void: bool = False) -> Path:
    """Pictures of 32x32 with a bright rectangle, and its mask; with ``void`` some pixels of each mask are 255."""
    rng = np.random.default_rng(3)
    for part, count in counts.items():
        for kind in ("images", "masks"):
            (root / part / kind).mkdir(parents=True)
        for number in range(count):
            picture = rng.integers(0, 120, (SIZE, SIZE, 3), dtype=np.uint8)
            mask = np.zeros((SIZE, SIZE), np.uint8)
            top, left, height, width = rng.integers(2, 14, 4)
            mask[top : top + height, left : left + width] = 1
            picture[mask == 1] += 110
            if void:  # another number of pixels in each picture: equal weights for pictures would be wrong
                mask[: 3 * number + 1, 28:] = 255
            Image.fromarray(picture).save(root / part / "images" / f"{number:02d}.png")
            Image.fromarray(mask).save(root / part / "masks" / f"{number:02d}.png")
    return root


def copy_state(module: LightningModule) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


class Probe(Callback):
    """Remembers what happened: one entry a batch, an optimizer step, or an epoch, as the names say."""

    def __init__(self, *, states: bool = False) -> None:
        self.keep_states = states
        self.batches: list[dict[str, Tensor]] = []
        self.rates: list[float] = []
        self.losses: list[float] = []
        self.states: list[dict[str, Tensor]] = []
        self.gradients: list[dict[str, Tensor]] = []
        self.modes: list[bool] = []
        self.epochs: list[dict[str, float]] = []
        self.trainer: Trainer | None = None

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.trainer = trainer
        if self.keep_states:
            self.states.append(copy_state(pl_module))

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.batches.append({k: value.clone() for k, value in batch.items() if isinstance(value, Tensor)})
        self.rates.append(trainer.optimizers[0].param_groups[-1]["lr"])
        self.modes.append(pl_module.network.backbone.training)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.losses.append(float(outputs["loss"]) * trainer.accumulate_grad_batches)
        if self.keep_states:
            self.states.append(copy_state(pl_module))
            named = pl_module.named_parameters()
            self.gradients.append({name: p.grad.clone() for name, p in named if p.grad is not None})

    def on_fit_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.module = pl_module


@dataclass
class Fit:
    """One finished fit."""

    run: Path
    probe: Probe
    printed: str = ""
    rows: list[dict[str, str]] = field(default_factory=list)

    @property
    def module(self) -> Any:
        return self.probe.module

    def column(self, name: str) -> list[float]:
        return [float(row[name]) for row in self.rows]

    def checkpoint(self, name: str = "last") -> dict[str, Any]:
        return torch.load(self.run / "checkpoints" / f"{name}.ckpt", map_location="cpu", weights_only=True)


def read_metrics(run: Path) -> list[dict[str, str]]:
    """The rows, less the columns that a clock writes."""
    with (run / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return [{k: v for k, v in row.items() if k not in CLOCKED} for row in csv.DictReader(file)]


class Fitter:
    """Runs `train.py fit` in this process, in an empty folder."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path
    ) -> None:
        self.monkeypatch, self.capsys, self.folder = monkeypatch, capsys, folder
        monkeypatch.chdir(folder)

    def __call__(
        self,
        data: Path,
        *flags: str,
        norm: str = "batch",
        config: Path = CONFIG,
        probe: Probe | None = None,
        callbacks: tuple[Callback, ...] = (),
    ) -> Fit:
        watching = probe or Probe()
        build = cli.app.trainer_arguments
        before = set((self.folder / "runs").rglob("version_*"))

        def with_probe(*args: Any, **kwargs: Any) -> dict[str, Any]:
            arguments = build(*args, **kwargs)
            return {**arguments, "callbacks": [*arguments["callbacks"], watching, *callbacks]}

        base = [] if config != CONFIG else [*SMALL, f"--data.root={data}", options(norm)]
        with self.monkeypatch.context() as patch:
            patch.setattr(cli.app, "trainer_arguments", with_probe)
            code = main(["fit", f"--config={config}", *base, *flags])
        out = self.capsys.readouterr()
        assert code == 0, out.err
        runs = set((self.folder / "runs").rglob("version_*"))
        made = runs - before
        run = made.pop() if made else config.parent
        assert not made, "one fit, one folder"
        return Fit(run, watching, out.out, read_metrics(run))

    def fails(self, data: Path, *flags: str) -> str:
        code = main(["fit", f"--config={CONFIG}", *SMALL, f"--data.root={data}", options(), *flags])
        assert code == 2
        return self.capsys.readouterr().err
