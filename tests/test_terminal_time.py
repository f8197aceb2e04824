"""How long a fit says it will take, against how long its batches were made to take."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback

import callbacks.time_estimate
from callbacks import TimeEstimate
from tests.fitting import Fitter, write_pictures

TRAIN_S, VAL_S = 0.06, 0.1


class Slow(Callback):
    """Makes each batch take its time, and notes what the estimate says at the end of each."""

    def __init__(self) -> None:
        self.left: list[float | None] = []
        self.whole: list[float | None] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        time.sleep(TRAIN_S)

    def on_validation_batch_start(self, trainer: Any, *_: Any) -> None:
        time.sleep(VAL_S)

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        estimate = next(c for c in trainer.callbacks if isinstance(c, TimeEstimate))
        self.left.append(estimate.left_s(trainer, batch_idx))
        self.whole.append(estimate.epoch_s(trainer))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "pictures", {"train": 16, "val": 4, "test": 4})


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short fits tell their time too."""
    monkeypatch.setattr(callbacks.time_estimate, "_WORTH_TELLING_S", 0.0)
    monkeypatch.setattr(callbacks.time_estimate, "_ENOUGH_S", 0.1)
    monkeypatch.setattr(callbacks.time_estimate, "_MARK_S", 0.05)


#: 8 batches of 2 pictures, 2 of the validation.
EPOCH_S = 8 * TRAIN_S + 2 * VAL_S
WORDS = ("--training.batch_size=2", "--trainer.num_sanity_val_steps=1")


@pytest.mark.usefixtures("told")
def test_the_estimate_is_what_the_batches_take(fit: Fitter, data: Path) -> None:
    slow = Slow()
    ran = fit(data, *WORDS, "--training.epochs=3", callbacks=(slow,))
    assert slow.left[:3] == [None] * 3, "the first batches do not count"
    known = [(number, left) for number, left in enumerate(slow.left) if left is not None]
    assert len(known) >= 16
    for number, left in known:
        expected = (3 - (number + 1) / 8) * EPOCH_S
        assert 0.8 * expected - 0.05 < left < 2 * expected + 0.5, (number, left, expected)
    (line,) = [line for line in ran.printed.splitlines() if line.startswith("time: ")]
    assert line.startswith("time: about 1 s an epoch, ") and line.endswith(" until the end of the run")


@pytest.mark.usefixtures("told")
def test_a_run_that_goes_on_counts_what_is_left(fit: Fitter, data: Path) -> None:
    first = fit(data, *WORDS, "--training.epochs=1")
    slow = Slow()
    words = ("--ckpt_path=last", "--training.epochs=3")
    ran = fit(data, *words, config=first.run / "config.yaml", callbacks=(slow,))
    known = [left for left in slow.left if left is not None]
    assert known and max(known) < 2 * 2 * EPOCH_S + 0.5, "two epochs of three"
    assert known[0] > EPOCH_S
    assert ran.printed.count("time: about") == 1


@pytest.mark.usefixtures("told")
def test_an_epoch_of_few_batches_tells_at_its_end(fit: Fitter, data: Path) -> None:
    ran = fit(data, "--training.batch_size=16", "--training.epochs=2", callbacks=(Slow(),))
    lines = [line for line in ran.printed.splitlines() if line.startswith(("time: ", "epoch "))]
    assert sorted(line.split()[0] for line in lines) == ["epoch", "epoch", "time:"]
    assert lines[-1].startswith("epoch 2/2"), "after the last one nobody asks"


def test_a_pipe_is_told_of_long_epochs_only(fit: Fitter, data: Path) -> None:
    ran = fit(data, *WORDS, "--training.epochs=2", callbacks=(Slow(),))
    assert "time: about" not in ran.printed
