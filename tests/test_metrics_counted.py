"""Every evaluation counts that it scored each sample once: in real fits, with what goes wrong and what may."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datamodules.sampler import GlobalBatchSampler
from tests.fitting import Fitter, write_pictures
from tests.tasks import CLASSIFICATION, SEGMENTATION, SIZE, write_task


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "data", {"train": 4, "val": 7})


def repeat_the_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sampler that draws sample 1 in the place of sample 0 where it does not shuffle."""
    shuffled = GlobalBatchSampler.order

    def order(self: GlobalBatchSampler) -> np.ndarray:
        return shuffled(self) if self.shuffle else np.arange(self.size).clip(min=1)

    monkeypatch.setattr(GlobalBatchSampler, "order", order)


def test_a_sample_twice_ends_the_run(fit: Fitter, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repeat_the_second(monkeypatch)
    text = r"val: .* scored 1 of 7 samples never \(first 0\), 1 of 7 samples more than once \(first 1\)"
    with pytest.raises(RuntimeError, match=text):
        fit(pictures)


@pytest.mark.parametrize(
    "flag",
    ["--trainer.limit_val_batches=1", "--trainer.limit_val_batches=0.5", "--trainer.overfit_batches=1"],
)
def test_a_limit_is_no_mistake(
    fit: Fitter, pictures: Path, monkeypatch: pytest.MonkeyPatch, flag: str
) -> None:
    repeat_the_second(monkeypatch)
    assert fit(pictures, flag, "--training.batch_size=2").rows


def test_the_sanity_check_is_not_counted_on(
    fit: Fitter, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ("--trainer.num_sanity_val_steps=-1", "--training.epochs=2")
    whole = fit(pictures, *flags)  # each of three passes counts anew
    assert len(whole.rows) == 2
    repeat_the_second(monkeypatch)
    with pytest.raises(RuntimeError, match="1 of 7 samples never"):
        fit(pictures, *flags)


@pytest.mark.parametrize("workers", [0, 2])
def test_what_cannot_be_read_is_excused(fit: Fitter, pictures: Path, workers: int) -> None:
    for number in (2, 3, 6):
        (pictures / "val" / "images" / f"{number:02d}.png").write_bytes(b"no picture")
    found = fit(
        pictures, "--data.read.on_error=skip", f"--data.loader.num_workers={workers}", "--training.epochs=2"
    )
    assert len(found.rows) == 2


def test_a_test_is_counted_too(
    loupe: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_task("segmentation", tmp_path / "data")
    assert loupe("fit", *SEGMENTATION.words, f"--data.root={root}").code == 0
    use = ["--config", str(tmp_path / "runs" / "seg_unet" / "version_0" / "config.yaml"), "--ckpt_path=last"]
    assert loupe("test", *use).code == 0
    repeat_the_second(monkeypatch)
    for command, part in (("test", "test"), ("validate", "val")):
        with pytest.raises(RuntimeError, match=f"{part}: .* 1 of 4 samples never"):
            loupe(command, *use)


def write_classes(root: Path, count: int) -> Path:
    for part in ("train", "val"):
        for number in range(count):
            folder = root / part / f"class{number}"
            folder.mkdir(parents=True)
            Image.new("RGB", (SIZE, SIZE), (number * 20, 99, 9)).save(folder / "0.png")
    return root


@pytest.mark.parametrize(("count", "there"), [(5, False), (6, True)])
def test_top5_is_logged_where_it_says_something(
    loupe: Callable[..., Any], tmp_path: Path, count: int, there: bool
) -> None:
    root = write_classes(tmp_path / "data", count)
    words = [*CLASSIFICATION.words, f"--data.root={root}", "--training.tensorboard=false"]
    outcome = loupe("fit", *words, "--training.monitor=val/top5")
    if not there:
        assert outcome.code == 2 and "training.monitor 'val/top5'" in outcome.err, outcome.err
        assert loupe("fit", *words).code == 0
    (file,) = tmp_path.glob("runs/*/version_*/metrics.csv")
    columns = file.read_text().splitlines()[0].split(",")
    assert ("val/top5" in columns) == there
    assert {"val/auroc", "val/average_precision", "val/calibration_error"} <= set(columns)
