"""A run that goes on is the run that would have been: same weights, same rows, and the user's settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer

from tests.fitting import Fit, Fitter, Probe, write_pictures

RESUME = ("--ckpt_path=last",)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("resume"), {"train": 10, "val": 4})


class StopAfter(Callback):
    """Ends the run after so many epochs, as a user's Ctrl-C between two epochs would."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        if trainer.current_epoch + 1 == self.epochs:
            trainer.should_stop = True


def interrupted(fit: Fitter, data: Path, flags: tuple[str, ...], probe: Probe | None = None) -> Fit:
    first = fit(data, *flags, callbacks=(StopAfter(2),))
    assert len(first.rows) == 2
    return fit(data, *RESUME, config=first.run / "config.yaml", probe=probe)


def assert_identical(ours: Any, theirs: Any, where: str = "") -> None:
    """Bit for bit, through all of a checkpoint."""
    if isinstance(ours, torch.Tensor):
        assert torch.equal(ours, theirs), where
    elif isinstance(ours, dict):
        assert ours.keys() == theirs.keys(), where
        for key in ours:
            assert_identical(ours[key], theirs[key], f"{where}.{key}")
    elif isinstance(ours, list | tuple):
        assert len(ours) == len(theirs), where
        for index, pair in enumerate(zip(ours, theirs, strict=True)):
            assert_identical(*pair, f"{where}[{index}]")
    else:
        assert ours == theirs, where


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param(("--training.optimizer=adamw", "--data.augment.preset=medium"), id="adamw-augmented"),
        pytest.param(("--training.ema={enabled: true, decay: 0.5}",), id="ema"),
        pytest.param(
            ("--training.lr_schedule={type: reduce_on_plateau, patience: 1, min_delta: 100}",), id="plateau"
        ),
        pytest.param(
            (
                "--training.warmup={enabled: true, epochs: 2.5}",
                "--training.lr_schedule=one_cycle",
                "--training.optimizer={type: sgd, momentum: 0.9}",
                "--training.accumulate=2",
                "--training.gradient_clip=0.5",
            ),
            id="warmup-momentum-accumulate",
        ),
        pytest.param(("--model.freeze_backbone=true", "--model.unfreeze_epoch=3"), id="unfreezes-later"),
    ],
)
def test_two_and_two_epochs_are_four(fit: Fitter, data: Path, flags: tuple[str, ...]) -> None:
    flags = (*flags, "--training.epochs=4", "--training.learning_rate=0.01")
    straight = fit(data, *flags)
    resumed = interrupted(fit, data, flags)
    assert resumed.run != straight.run
    assert resumed.rows == straight.rows
    assert len(straight.rows) == 4
    ours, theirs = resumed.checkpoint(), straight.checkpoint()
    for key in ("state_dict", "current_model_state", "averaging_state", "optimizer_states", "lr_schedulers"):
        assert_identical(ours.get(key), theirs.get(key), key)
    assert (ours["epoch"], ours["global_step"]) == (theirs["epoch"], theirs["global_step"]) == (3, 12)
    assert resumed.probe.rates == straight.probe.rates[len(straight.probe.rates) // 2 :]
    assert_identical(resumed.checkpoint("best")["state_dict"], straight.checkpoint("best")["state_dict"])
    assert "settings that differ" not in resumed.printed


def test_more_epochs_after_the_end(fit: Fitter, data: Path) -> None:
    flags = ("--training.lr_schedule=constant", "--training.learning_rate=0.01")
    straight = fit(data, *flags, "--training.epochs=4")
    first = fit(data, *flags, "--training.epochs=2")
    resumed = fit(data, *RESUME, "--training.epochs=4", config=first.run / "config.yaml")
    assert resumed.run == first.run
    assert resumed.rows == straight.rows
    assert_identical(resumed.checkpoint()["state_dict"], straight.checkpoint()["state_dict"])
    assert "training.epochs: 2 -> 4" in resumed.printed


def test_early_stopping_goes_on_counting(fit: Fitter, data: Path) -> None:
    # The first epoch stays the best, so the third after it is the last, wherever the run was cut.
    stopping = "--training.early_stopping={enabled: true, patience: 3, min_delta: 1000}"
    resumed = interrupted(fit, data, (stopping, "--training.epochs=9"))
    assert len(resumed.rows) == 4


def test_best_score_is_remembered(fit: Fitter, data: Path) -> None:
    flags = ("--training.monitor=train/loss", "--training.monitor_mode=max", "--training.epochs=4")
    resumed = interrupted(fit, data, (*flags, "--training.learning_rate=0.01"))
    losses = resumed.column("train/loss")
    assert losses.index(max(losses)) == 0
    assert resumed.checkpoint("best")["epoch"] == 0


def test_the_users_settings_win_and_the_difference_is_told(fit: Fitter, data: Path) -> None:
    stopping = "--training.early_stopping={enabled: true, patience: 2, min_delta: 1000}"
    constant = "--training.lr_schedule=constant"
    optimizer = "--training.optimizer={type: sgd, momentum: 0.5, weight_decay: 0.1}"
    first = fit(data, stopping, constant, optimizer, "--training.epochs=2", "--training.learning_rate=0.01")
    resumed = fit(
        data,
        *RESUME,
        "--training.epochs=9",
        "--training.learning_rate=0.002",
        "--training.optimizer.momentum=0.7",
        "--training.optimizer.weight_decay=0.3",
        "--training.early_stopping.patience=4",
        "--training.loss=dice",
        "--training.gradient_clip=0.25",
        config=first.run / "config.yaml",
    )
    assert set(resumed.probe.rates) == {0.002}
    assert resumed.probe.trainer is not None
    groups = resumed.probe.trainer.optimizers[0].param_groups
    assert {group["momentum"] for group in groups} == {0.7}
    assert {group["weight_decay"] for group in groups} == {0.3, 0.0}
    assert resumed.module.criterion.name == "dice"
    assert resumed.probe.trainer.gradient_clip_val == 0.25
    assert len(resumed.rows) == 5, "the first epoch is the best, and four more are waited for"
    printed = resumed.printed
    for line in (
        "training.epochs: 2 -> 9",
        "training.learning_rate: 0.01 -> 0.002",
        "training.optimizer.momentum: 0.5 -> 0.7",
        "training.early_stopping.patience: 2 -> 4",
        "training.loss.type: dice_ce -> dice",
        "training.gradient_clip: None -> 0.25",
    ):
        assert line in printed
    assert "training.batch_size" not in printed


def test_another_decay_of_the_average_is_the_users(fit: Fitter, data: Path) -> None:
    first = fit(data, "--training.ema={enabled: true, decay: 0.9}", "--training.epochs=1")
    flags = ("--training.ema.decay=0.0", "--training.epochs=2")
    resumed = fit(data, *RESUME, *flags, config=first.run / "config.yaml", probe=Probe(states=True))
    # Nothing of the old average is kept: it is the last weights.
    assert_identical(resumed.checkpoint()["state_dict"], resumed.checkpoint()["current_model_state"])


@pytest.mark.filterwarnings("ignore:The checkpoint was not created with WeightAveraging")  # says what happens
def test_an_average_can_begin_or_end_with_the_resume(fit: Fitter, data: Path) -> None:
    plain = fit(data, "--training.epochs=1")
    begun = fit(data, *RESUME, "--training.epochs=2", "--training.ema=true", config=plain.run / "config.yaml")
    assert len(begun.rows) == 2
    kept = begun.checkpoint()
    assert not torch.equal(
        kept["state_dict"]["model.network.head.weight"],
        kept["current_model_state"]["model.network.head.weight"],
    )
    ended = fit(
        data, *RESUME, "--training.epochs=3", "--training.ema=false", config=begun.run / "config.yaml"
    )
    assert len(ended.rows) == 3
    assert "current_model_state" not in ended.checkpoint()
