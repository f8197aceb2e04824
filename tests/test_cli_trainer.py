"""Every setting of Lightning's Trainer works from the command line, and some by what they leave on the disk."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

Loupe = Callable[..., Any]
QUICK = [
    "training.epochs=2",
    "training.batch_size=4",
    "--training.tensorboard=false",
    "--data.augment.preset=none",
]
RUN = Path("runs/seg_unet/version_0")


def rows() -> list[dict[str, str]]:
    with (RUN / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


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
        # Lightning says once that nothing is logged.
        pytest.param(
            ["--trainer.barebones=true"],
            marks=pytest.mark.filterwarnings("ignore:You are trying to `self.log"),
        ),
        ["--trainer.gradient_clip_algorithm=value", "training.gradient_clip=0.5"],
        ["--trainer.inference_mode=false"],
        ["--trainer.precision=64-true"],
        ["--trainer.precision=bf16-true"],
        ["--trainer.logger=CSVLogger", "--trainer.logger.save_dir=logs"],
        [
            "--trainer.callbacks+=LearningRateMonitor",
            "--trainer.logger=CSVLogger",
            "--trainer.logger.save_dir=logs",
        ],
        ["--trainer.callbacks+=ModelCheckpoint"],
        ["--trainer.callbacks+=Timer", "--trainer.callbacks.duration=00:01:00:00"],
        [
            "--trainer.callbacks+=lightning.pytorch.callbacks.EarlyStopping",
            "--trainer.callbacks.monitor=val/loss",
        ],
        ["--seed_everything=7"],
        ["--seed_everything=false"],
        ["training.monitor=train/loss"],
        ["training.ema=true"],
        ["training.early_stopping=true"],
    ],
    ids=" ".join,
)
def test_every_setting_of_the_trainer_works(loupe: Loupe, tiny_words: list[str], words: list[str]) -> None:
    quick = (
        QUICK if not any("logger" in word for word in words) else [w for w in QUICK if "tensorboard" not in w]
    )
    outcome = loupe("fit", *tiny_words, *quick, *words)
    assert outcome.code == 0, outcome.err


def test_an_epoch_without_validation_is_neither_an_error_nor_the_best(
    loupe: Loupe, tiny_words: list[str]
) -> None:
    words = [
        "--trainer.check_val_every_n_epoch=2",
        "training.early_stopping=true",
        "training.early_stopping.patience=1",
    ]
    outcome = loupe(
        "fit", *tiny_words, *QUICK[1:], "training.epochs=6", "training.learning_rate=0.02", *words
    )
    assert outcome.code == 0, outcome.err
    scored = {int(row["epoch"]): float(row["val/iou"]) for row in rows() if row["val/iou"]}
    assert all(epoch % 2 for epoch in scored) and len(scored) >= 2
    best = torch.load(RUN / "checkpoints" / "best.ckpt", weights_only=True)["epoch"]
    last = torch.load(RUN / "checkpoints" / "last.ckpt", weights_only=True)["epoch"]
    assert best == max(scored, key=lambda epoch: scored[epoch]) and last == len(rows()) - 1


def test_no_checkpoints_when_they_are_not_wanted(loupe: Loupe, tiny_words: list[str]) -> None:
    outcome = loupe("fit", *tiny_words, *QUICK, "--trainer.enable_checkpointing=false")
    assert outcome.code == 0, outcome.err
    assert len(rows()) == 2 and not list(RUN.rglob("*.ckpt"))
    outcome = loupe(
        "fit", *tiny_words, *QUICK, "--trainer.enable_checkpointing=false", "training.early_stopping=true"
    )
    assert outcome.code == 2 and "restore_best_weights=false" in outcome.err


@pytest.mark.parametrize(
    ("without", "key"),
    [
        ("--trainer.enable_checkpointing=false", "checkpoint.every_n_steps=2"),
        ("--trainer.enable_checkpointing=false", "checkpoint.every_minutes=2"),
        ("--trainer.barebones=true", "checkpoint.every_n_steps=2"),
        ("--trainer.barebones=true", "on_nonfinite=skip"),
    ],
)
def test_what_would_have_no_effect_is_refused(
    loupe: Loupe, tiny_words: list[str], without: str, key: str
) -> None:
    outcome = loupe("fit", *tiny_words, *QUICK, without, f"training.{key}")
    assert outcome.code == 2
    assert without.removeprefix("--") in outcome.err and f"training.{key.split('=')[0]}" in outcome.err


def test_limits_and_steps_count(loupe: Loupe, tiny_words: list[str]) -> None:
    assert loupe("fit", *tiny_words, *QUICK, "--trainer.limit_train_batches=1").code == 0
    assert [row["step"] for row in rows()] == ["0", "1"]
    assert loupe("fit", *tiny_words, *QUICK, "--trainer.max_steps=3", "--run.name=steps").code == 0
    last = torch.load("runs/steps/version_0/checkpoints/last.ckpt", weights_only=True)
    assert last["global_step"] == 3
