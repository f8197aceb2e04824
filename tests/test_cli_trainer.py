"""Whole runs from the command line: every Trainer setting, the run directory, the checkpoints, a polite end."""

from __future__ import annotations

import csv
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image

import inference
from callbacks import AtomicCheckpointIO, RunDirectory

Loupe = Callable[..., Any]
ROOT = Path(__file__).resolve().parent.parent
QUICK = ["training.epochs=2", "training.batch_size=4", "--training.tensorboard=false", "--data.augment.preset=none"]
RUN = Path("runs/seg_unet/version_0")


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["state_dict"]


def same(one: Path, other: Path) -> bool:
    a, b = weights(one), weights(other)
    return list(a) == list(b) and all(torch.equal(a[key], b[key]) for key in a)


def start(words: Sequence[str], cwd: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *words],
        cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


# -- every Trainer setting works ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["--trainer.check_val_every_n_epoch=2"],
        ["--trainer.enable_checkpointing=false"],
        ["--trainer.fast_dev_run=true"],
        ["--trainer.overfit_batches=1"],
        ["--trainer.limit_train_batches=1"],
        ["--trainer.max_steps=3"],
        ["--trainer.val_check_interval=0.5"],
        ["--trainer.num_sanity_val_steps=0"],
        ["--trainer.profiler=simple"],
        ["--trainer.detect_anomaly=true"],
        ["--trainer.deterministic=true"],
        ["--trainer.max_time=00:01:00:00"],
        ["--trainer.reload_dataloaders_every_n_epochs=1"],
        ["--trainer.enable_progress_bar=true"],
        ["--trainer.enable_model_summary=true"],
        ["--trainer.default_root_dir=elsewhere"],
        ["--trainer.min_epochs=1"],
        ["--trainer.limit_val_batches=0", "training.monitor=train/loss"],
        ["--trainer.barebones=true"],
        ["--trainer.gradient_clip_algorithm=value", "training.gradient_clip=0.5"],
        ["--trainer.inference_mode=false"],
        ["--trainer.precision=64-true"],
        ["--trainer.precision=bf16-true"],
        ["--trainer.logger=CSVLogger", "--trainer.logger.save_dir=logs"],
        ["--trainer.callbacks+=LearningRateMonitor", "--trainer.logger=CSVLogger", "--trainer.logger.save_dir=logs"],
        ["--trainer.callbacks+=ModelCheckpoint"],
        ["--trainer.callbacks+=Timer", "--trainer.callbacks.duration=00:01:00:00"],
        ["--trainer.callbacks+=lightning.pytorch.callbacks.EarlyStopping", "--trainer.callbacks.monitor=val/loss"],
        ["--seed_everything=7"],
        ["--seed_everything=false"],
        ["training.monitor=train/loss"],
        ["training.ema=true"],
        ["training.early_stopping=true"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_every_setting_of_the_trainer_works(loupe: Loupe, tiny_words: list[str], words: list[str]) -> None:
    quick = QUICK if not any("logger" in word for word in words) else [w for w in QUICK if "tensorboard" not in w]
    outcome = loupe("fit", *tiny_words, *quick, *words)
    assert outcome.code == 0, outcome.err
    print(sorted(str(p) for p in Path().rglob("*") if p.is_file()))
