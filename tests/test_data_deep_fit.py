"""Data sets of 16 bits, of one and of five channels: batches, fits, predictions, arrays in a program."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

import inference
from datamodules import Augment, ClassificationDataModule, LabelRead, Loader, read_image
from errors import LoupeError
from tests.conftest import Outcome
from tests.tasks import CLASSIFICATION, SEGMENTATION, SIZE

Loupe = Callable[..., Outcome]
RNG = np.random.default_rng(0)


def write_classes(root: Path, save: Callable[[Path, np.ndarray], None], suffix: str, channels: int) -> Path:
    """Left bright or right bright, in every channel its own noise."""
    for part, count in (("train", 8), ("val", 4), ("test", 4)):
        for number in range(count):
            side = ("left", "right")[number % 2]
            array = RNG.integers(0, 90, (SIZE, SIZE, channels)).astype(np.uint8)
            array[:, SIZE // 2 * (number % 2) :][:, : SIZE // 2] += 140
            path = root / part / side / f"{number}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            save(path, array)
    return root


def save_mixed(path: Path, array: np.ndarray) -> None:
    """Every other picture of 16 bits."""
    grey = array[..., 0]
    Image.fromarray(grey if int(path.stem) % 4 < 2 else grey.astype(np.uint16) * 257).save(path)


def test_a_batch_of_8_and_16_bits_is_float(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "d", save_mixed, "png", 1)
    data = ClassificationDataModule(
        str(root),
        image_size=SIZE,
        read=LabelRead(in_channels=1),
        augment=Augment(preset="medium"),
        loader=Loader(batch_size=4, num_workers=0),
    )
    data.setup("fit")
    (batch,) = data.val_dataloader()
    assert batch["image"].dtype == torch.float32 and batch["image"].shape == (4, 1, SIZE, SIZE)
    for path, picture in zip(data.val_paths, batch["image"], strict=True):
        with Image.open(path) as image:
            stored = np.array(image).astype(np.float32)
        torch.testing.assert_close(
            picture[0], torch.from_numpy(stored / (65535 if image.mode == "I;16" else 255))
        )
    for trained in data.train_dataloader():
        assert trained["image"].min() >= 0 and trained["image"].max() <= 1
        assert trained["image"].mean() > 0.2


@pytest.mark.parametrize("channels", [1, 5])
@pytest.mark.parametrize("task", [CLASSIFICATION, SEGMENTATION], ids=["classification", "segmentation"])
def test_a_fit_and_a_prediction(loupe: Loupe, tmp_path: Path, channels: int, task: Any) -> None:
    def save(path: Path, array: np.ndarray) -> None:
        if channels == 1:
            save_mixed(path, array)
        else:
            tifffile.imwrite(path, array, photometric="minisblack", planarconfig="contig")

    root = write_classes(tmp_path / "d", save, "png" if channels == 1 else "tif", channels)
    if task is SEGMENTATION:
        for path in [*root.rglob("*.png"), *root.rglob("*.tif")]:
            mask = np.zeros((SIZE, SIZE), np.uint8)
            mask[:, SIZE // 2 * (path.parent.name == "right") :][:, : SIZE // 2] = 1
            folder = path.parent.parent
            for kind in ("images", "masks"):
                (folder / kind).mkdir(exist_ok=True)
            Image.fromarray(mask).save(folder / "masks" / f"{path.stem}.png")
            path.rename(folder / "images" / path.name)
    words = (f"--data.read.in_channels={channels}", "--data.augment.preset=strong", "--training.epochs=2")
    outcome = loupe("fit", *task.words, f"--data.root={root}", *words, "--run.name=deep")
    assert outcome.code == 0, outcome.err
    assert f"x {channels} channels" in outcome.out
    run = tmp_path / "runs" / "deep" / "version_0"
    pictures = sorted((root / "test").rglob("*.png" if channels == 1 else "*.tif"))
    pictures = [path for path in pictures if path.parent.name != "masks"]
    folder = pictures[0].parent if task is SEGMENTATION else root / "test"
    config = f"--config={run / 'config.yaml'}"
    outcome = loupe("predict", config, "--ckpt_path=best", f"--data.predict_path={folder}")
    assert outcome.code == 0, outcome.err
    with (run / "predictions" / "predictions.csv").open(newline="", encoding="utf-8") as stream:
        rows = {Path(row["path"]): row for row in csv.DictReader(stream)}
    assert len(rows) == len(pictures) == 4
    predictor = inference.load(run / "checkpoints" / "best.ckpt")
    for path in pictures:
        found = predictor.predict(path)
        arrays = [read_image(path, channels).permute(1, 2, 0).numpy()]
        if arrays[0].dtype == np.float32:  # the same as uint16, and as floats in 0..1
            arrays.append((arrays[0] * 65535).round().astype(np.uint16))
        if channels == 1:
            arrays.append(arrays[-1][..., 0])
        again = [predictor.predict(array) for array in arrays]
        for name, value in rows[path].items():
            if name in found["row"] and name != "label":
                for each in (found, *again):
                    assert float(value) == pytest.approx(each["row"][name], abs=2e-6)
    with pytest.raises(LoupeError, match=rf"a picture must be a uint8 array in \(H, W, {channels}\)"):
        predictor.predict(np.zeros((9, 9, 3), np.uint8))


def test_the_checkpoints_range_wins_and_says_so(tmp_path: Path) -> None:
    """What was black and white in training is so in prediction, whatever the user says then."""
    for trained, given, message in (
        ({}, (0.0, 4095.0), "data.read.value_range 0x4095 is not used: .* trained on their whole range"),
        (
            {"value_range": [0.0, 4095.0]},
            (0.0, 9.0),
            "0x9 is not used: .* trained on 0x4095 as black and white",
        ),
    ):
        data = ClassificationDataModule(str(tmp_path), image_size=8, read=LabelRead(value_range=given))
        contract = {
            "image_size": [8, 8],
            "resize": "letterbox",
            "interpolation": "bilinear",
            "in_channels": 3,
        }
        with pytest.warns(UserWarning, match=message):
            data.adopt({"input": {**contract, **trained}})
        assert data.read.value_range == trained.get("value_range")
