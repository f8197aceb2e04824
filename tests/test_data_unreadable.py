"""Files that cannot be read: named, or skipped the same way whatever the number of workers, and counted."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from datamodules import (
    BoxRead,
    ClassificationDataModule,
    CropDataModule,
    LabelRead,
    Loader,
    MaskRead,
    SegmentationDataModule,
)
from errors import LoupeError

PARTS = {"train": 12, "val": 5, "test": 4}
BROKEN = {"train": (3, 4, 11), "val": (2,), "test": ()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures whose grey level is their number; three of them are truncated, empty, or text."""
    rows = ["path,label,split"]
    for part, count in PARTS.items():
        for i in range(count):
            path = tmp_path / f"{part}_{i:02}.png"
            Image.new("L", (8, 8), 10 * i + 5).save(path)
            if i in BROKEN[part]:
                path.write_bytes({3: path.read_bytes()[:50], 4: b"", 11: b"no picture", 2: b""}[i])
            rows.append(f"{path.name},{'ab'[i % 2]},{part}")
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    return tmp_path


def module(folder: Path, *, on_error: str = "skip", workers: int = 0) -> ClassificationDataModule:
    read: Any = LabelRead(resize="stretch", on_error=on_error)  # type: ignore[arg-type]
    data = ClassificationDataModule(
        str(folder), image_size=8, read=read, loader=Loader(batch_size=4, num_workers=workers)
    )
    data.setup("fit")
    return data


@pytest.mark.parametrize("workers", [0, 2])
def test_the_next_picture_takes_its_place(
    folder: Path, workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    data = module(folder, workers=workers)
    sampler = data.train_dataloader().sampler
    drawn = [draw.index for batch in sampler for draw in batch]
    batches = list(data.train_dataloader())
    index = torch.cat([batch["index"] for batch in batches]).tolist()
    grey = torch.cat([batch["image"][:, 0, 0, 0] for batch in batches]).tolist()
    assert index == [{3: 5, 4: 5, 11: 0}.get(i, i) for i in drawn]
    assert grey == [10 * i + 5 for i in index]
    assert torch.cat([batch["label"] for batch in batches]).tolist() == [i % 2 for i in index]
    assert all(batch["valid"].all() for batch in batches)
    with caplog.at_level(logging.WARNING):
        data.teardown("fit")
    assert "3 of 12 train pictures could not be read and others took their place" in caplog.text
    for i in BROKEN["train"]:
        assert f"train_{i:02}.png" in caplog.text
    caplog.clear()
    data.teardown("fit")
    assert not caplog.text


def test_no_score_sees_a_stand_in(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = module(folder)
    batches = list(data.val_dataloader())
    assert torch.cat([batch["valid"] for batch in batches]).tolist() == [True, True, False, True, True]
    assert all(batch["valid"].all() for batch in data.test_dataloader())
    with caplog.at_level(logging.WARNING):
        data.teardown("validate")
    assert "1 of 5 val pictures could not be read and are in no score" in caplog.text
    assert "test pictures" not in caplog.text


def test_predict_leaves_out_what_it_cannot_read(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = module(folder)
    data.predict_path = str(folder)
    data.setup("predict")
    batches = list(data.predict_dataloader())
    valid = torch.cat([batch["valid"] for batch in batches]).tolist()
    broken = [f"{part}_{i:02}.png" for part, rows in BROKEN.items() for i in rows]
    assert valid == [Path(path).name not in broken for path in data.predict_paths]
    with caplog.at_level(logging.WARNING):
        data.teardown("predict")
    assert "4 of 21 predict pictures could not be read and have no prediction" in caplog.text


@pytest.mark.parametrize("workers", [0, 2])
def test_by_default_the_file_is_named(folder: Path, workers: int) -> None:
    data = module(folder, on_error="raise", workers=workers)
    with pytest.raises(LoupeError, match=r"train_\d\d\.png"):
        list(data.train_dataloader())


def test_nothing_readable_is_an_error(folder: Path) -> None:
    for path in folder.glob("val_*.png"):
        path.write_bytes(b"")
    with pytest.raises(LoupeError, match="none of the 5 pictures can be read"):
        list(module(folder).val_dataloader())


def segmentation(tmp_path: Path) -> SegmentationDataModule:
    read = MaskRead(on_error="skip")
    return SegmentationDataModule(str(tmp_path), image_size=8, read=read, loader=Loader(num_workers=0))


def pairs(tmp_path: Path) -> None:
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
        for i in range(9):
            Image.new("L", (8, 8), i % 2).save(tmp_path / name / f"{i}.png")


def test_mistakes_that_are_no_damage_are_not_skipped(tmp_path: Path) -> None:
    pairs(tmp_path)
    Image.new("L", (9, 9)).save(tmp_path / "masks/4.png")
    with pytest.raises(LoupeError, match=r"4\.png is 9x9 and its picture"):
        segmentation(tmp_path).setup("fit")


def test_masks_and_boxes_are_let_through_when_they_are_looked_at_first(tmp_path: Path) -> None:
    pairs(tmp_path)
    (tmp_path / "masks/4.png").write_bytes(b"")
    (tmp_path / "images/5.png").write_bytes(b"")
    data = segmentation(tmp_path)
    data.setup("fit")
    valid = [
        batch["valid"]
        for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader())
        for batch in loader
    ]
    assert len(torch.cat(valid)) == 9
    rows = ["path,x1,y1,x2,y2", *[f"images/{i}.png,0,0,4,4" for i in range(9)]]
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    crops = CropDataModule(str(tmp_path), image_size=8, read=BoxRead(on_error="skip"))
    crops.setup("fit")
    with pytest.raises(LoupeError, match=r"5\.png"):
        CropDataModule(str(tmp_path), image_size=8).setup("fit")
