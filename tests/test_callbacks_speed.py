"""How fast training is: the share of its time that goes into waiting for pictures, pictures a second, memory."""

from __future__ import annotations

import csv
import time
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback

from datamodules import InputReader
from datamodules.loaders import WaitingLoader
from tests.boards import events
from tests.fitting import Fitter, write_pictures

HINT = "of the training time goes into waiting for pictures"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("data"), {"train": 12, "val": 4})


def slow_reading(monkeypatch: pytest.MonkeyPatch, **seconds: float) -> dict[str, float]:
    """Each picture of these parts takes so long; the returned times may be changed."""
    real = InputReader.sample

    def sample(self: InputReader, picture: Any, **options: Any) -> Any:
        time.sleep(next((time_s for part, time_s in seconds.items() if f"/{part}/" in str(picture)), 0.0))
        return real(self, picture, **options)

    monkeypatch.setattr(InputReader, "sample", sample)
    return seconds


class SlowStep(Callback):
    """Trains, or validates, for at least so long a batch."""

    def __init__(self, train_s: float = 0.0, val_s: float = 0.0) -> None:
        self.train_s, self.val_s = train_s, val_s

    def on_train_batch_start(self, *args: Any) -> None:
        time.sleep(self.train_s)

    def on_validation_batch_start(self, *args: Any) -> None:
        time.sleep(self.val_s)


def shares(run: Path) -> list[float]:
    with (run / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return [float(row["train/data_time"]) for row in csv.DictReader(file)]


def test_slow_reading_is_told_once(fit: Fitter, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow_reading(monkeypatch, train=0.1)
    ran = fit(data, "--training.epochs=3", "--training.tensorboard=true")
    found = shares(ran.run)
    assert len(found) == 3
    # the first batch of a fit is asked for before its first epoch begins
    assert 0.4 < found[0] <= 1 and all(0.7 < share <= 1 for share in found[1:]), found
    (hint,) = [line for line in ran.printed.splitlines() if HINT in line]
    assert hint.startswith(f"note: {found[1]:.0%} of") and "(now 0)" in hint
    board = events(ran.run, "train")
    assert [scalar.value for scalar in board.Scalars("speed/data_time")] == pytest.approx(found, abs=1e-6)


def test_worker_processes_that_are_slow_are_waited_for(
    fit: Fitter, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_reading(monkeypatch, train=0.1)
    ran = fit(data, "--training.epochs=2", "--data.loader.num_workers=1", "--data.loader.prefetch=1")
    assert shares(ran.run)[1] > 0.5
    assert "(now 1)" in next(line for line in ran.printed.splitlines() if HINT in line)


def test_fast_reading_is_not_worth_a_word(fit: Fitter, data: Path) -> None:
    ran = fit(data, "--training.epochs=2", callbacks=(SlowStep(train_s=0.3),))
    assert all(0 < share < 0.15 for share in shares(ran.run)), shares(ran.run)
    assert HINT not in ran.printed


def test_a_single_epoch_is_told_and_the_first_of_several_is_not(
    fit: Fitter, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pace = slow_reading(monkeypatch, train=0.05)
    assert HINT in fit(data).printed
    steps = SlowStep()

    def on_train_epoch_end(*args: Any) -> None:
        pace["train"], steps.train_s = 0.0, 0.2

    steps.on_train_epoch_end = on_train_epoch_end  # type: ignore[method-assign]
    ran = fit(data, "--training.epochs=2", callbacks=(steps,))
    assert shares(ran.run)[0] > 0.25 and shares(ran.run)[1] < 0.15, shares(ran.run)
    assert HINT not in ran.printed


@pytest.mark.parametrize("flags", [(), ("--trainer.val_check_interval=1",)], ids=["after", "within"])
def test_validation_does_not_count(
    fit: Fitter, data: Path, flags: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither its reading as waiting, nor its steps as training."""
    pace = slow_reading(monkeypatch, val=0.05)
    ran = fit(data, *flags, callbacks=(SlowStep(train_s=0.2),))
    assert all(share < 0.2 for share in shares(ran.run)), shares(ran.run)
    pace.update(val=0.0, train=0.1)
    ran = fit(data, "--training.epochs=2", *flags, callbacks=(SlowStep(val_s=0.5),))
    assert shares(ran.run)[1] > 0.7, shares(ran.run)


@pytest.mark.parametrize(
    ("flags", "images"),
    [((), 12), (("--trainer.limit_train_batches=2",), 8), (("--training.accumulate=2",), 12)],
    ids=["all", "limited", "accumulated"],
)
def test_pictures_a_second_and_memory(fit: Fitter, data: Path, flags: tuple[str, ...], images: int) -> None:
    """Steps of a known length: the figure is between that of the sleep alone and a generous overhead."""
    ran = fit(data, "--training.epochs=2", *flags, callbacks=(SlowStep(train_s=0.2),))
    with (ran.run / "metrics.csv").open(newline="", encoding="utf-8") as file:
        row = list(csv.DictReader(file))[1]
    batches = len(ran.probe.batches) / 2
    assert 0.4 * images / (0.2 * batches) < float(row["train/images_per_s"]) <= images / (0.2 * batches)
    assert 0.1 < float(row["train/memory_gib"]) < 64


def test_it_is_no_monitor(fit: Fitter, data: Path) -> None:
    error = fit.fails(data, "--training.monitor=train/data_time")
    assert "train/data_time" in error and "valid: train/loss" in error


def test_the_loader_counts_only_what_it_keeps_others_waiting_for() -> None:
    class Rows(list):  # type: ignore[type-arg]
        def __getitem__(self, index: Any) -> Any:
            time.sleep(0.05)
            return index

    loader = WaitingLoader(Rows(range(4)), batch_size=None)
    for _ in loader:
        time.sleep(0.05)
    assert 0.2 <= loader.waited_s < 0.3
    iterator = iter(loader)
    assert next(iterator) == 0
    before = loader.waited_s
    del iterator
    assert loader.waited_s == before and len(list(loader)) == 4
