"""The demo data: real files, the same everywhere, and not solvable by a linear model."""

import csv
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import SegmentationDataModule, ensure_shapes, read_image
from datamodules.drawing import SHAPES, draw_sample
from datamodules.formats import find_boxes, find_masks, read_manifest
from errors import LoupeError


@pytest.fixture(scope="session")
def shapes(loupe_cache: Path) -> Path:
    return ensure_shapes(loupe_cache)


def test_layout_counts_and_formats(shapes: Path) -> None:
    found = find_masks(shapes).samples
    assert Counter(found.parts) == {"train": 160, "val": 60, "test": 60}
    assert Counter(Path(path).suffix for path in found.paths) == {".jpg": 210, ".png": 70}
    labels = read_manifest(shapes / "labels.csv", required=["label"])
    boxes = find_boxes(shapes / "boxes.csv")
    empty = [name for name, x1 in zip(boxes.names, boxes.columns["x1"], strict=True) if not x1]
    assert [name for name in boxes.names if name not in set(empty)] == labels.names
    assert Counter(name.split("/")[0] for name in empty) == {"train": 480, "val": 30, "test": 30}
    assert {name.split("/")[1] for name in empty} == {"empty"}
    assert Counter(labels.parts) == {"train": 4800, "val": 300, "test": 300}
    for part, each in (("train", 1200), ("val", 75)):
        of_part = [label for label, p in zip(labels.columns["label"], labels.parts, strict=True) if p == part]
        assert Counter(of_part) == dict.fromkeys(SHAPES, each)
    files = {
        path for path in shapes.rglob("*") if path.suffix in (".jpg", ".png") and path.parent.name != "masks"
    }
    assert files == {Path(path) for path in boxes.paths}


def test_boxes_are_the_extent_of_the_masks(shapes: Path) -> None:
    with (shapes / "boxes.csv").open() as stream:
        rows = {row["path"]: row for row in csv.DictReader(stream)}
    for file in sorted((shapes / "val" / "masks").iterdir()):
        (row,) = (
            rows[f"val/images/{file.stem}{s}"]
            for s in (".jpg", ".png")
            if f"val/images/{file.stem}{s}" in rows
        )
        mask = np.asarray(Image.open(file))
        assert set(np.unique(mask)) == {0, 1}
        x1, y1, x2, y2 = (int(row[key]) for key in ("x1", "y1", "x2", "y2"))
        assert mask[y1:y2, x1:x2].sum() == mask.sum()
        for edge in (mask[y1, x1:x2], mask[y2 - 1, x1:x2], mask[y1:y2, x1], mask[y1:y2, x2 - 1]):
            assert edge.any()


def test_pictures_are_the_same_on_every_machine() -> None:
    """Frozen figures: whoever changes the drawing must also count up the folder's name."""
    picture, mask = draw_sample(np.random.default_rng([1, 2]), SHAPES.index("star"), 96)
    assert (picture.shape, picture.dtype, mask.shape, mask.dtype) == (
        (96, 96, 3),
        np.uint8,
        (96, 96),
        np.uint8,
    )
    again, _ = draw_sample(np.random.default_rng([1, 2]), SHAPES.index("star"), 96)
    np.testing.assert_array_equal(picture, again)
    assert (int(mask.sum()), round(float(picture.mean()), 1)) == (756, 119.2)


def test_shapes_stand_clear_of_the_border_and_fill_a_fair_part() -> None:
    shares = []
    for index in range(60):
        _, mask = draw_sample(np.random.default_rng([9, index]), index % len(SHAPES), 96)
        assert not mask[0].any()
        assert not mask[:, -1].any()
        shares.append(mask.mean())
    assert 0.04 < min(shares) < max(shares) < 0.4


def test_a_linear_model_on_pixels_fails(shapes: Path) -> None:
    """Ridge regression on 24x24 colour pixels, the best of many strengths chosen on the very validation part."""
    labels = read_manifest(shapes / "labels.csv", required=["label"])

    def data(part: str) -> tuple[torch.Tensor, torch.Tensor]:
        rows = [row for row, name in enumerate(labels.parts) if name == part]
        pictures = torch.stack([read_image(labels.paths[row]) for row in rows]).float()
        small = torch.nn.functional.interpolate(pictures, size=(24, 24), mode="area").flatten(1) / 255 - 0.5
        kinds = torch.tensor([SHAPES.index(labels.columns["label"][row]) for row in rows])
        return torch.cat([small, torch.ones(len(rows), 1)], dim=1), kinds

    (x, y), (x_val, y_val) = data("train"), data("val")
    target = torch.nn.functional.one_hot(y, len(SHAPES)).float()
    gram = x.T @ x
    accuracies = []
    for strength in (1e-1, 1e0, 1e1, 1e2, 1e3):
        weights = torch.linalg.solve(gram + strength * torch.eye(x.shape[1]), x.T @ target)
        accuracies.append(float(((x_val @ weights).argmax(1) == y_val).float().mean()))
    assert max(accuracies) < 0.5, accuracies


def test_several_makers_at_once_and_leftovers_do_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datamodules.shapes._COUNTS", {"train": 12, "val": 4, "test": 4})
    monkeypatch.setattr("datamodules.shapes._WITH_MASK", {"train": 6, "val": 2, "test": 2})
    monkeypatch.setattr("datamodules.shapes._EMPTY", {"train": 4, "val": 4, "test": 4})
    (tmp_path / "shapes-v2.killed.part").mkdir()  # what a killed run leaves
    results: list[Path] = []
    threads = [threading.Thread(target=lambda: results.append(ensure_shapes(tmp_path))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [tmp_path / "shapes-v2"] * 3
    assert len(list((tmp_path / "shapes-v2").rglob("*.jpg"))) == 15 + 9
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shapes-v2", "shapes-v2.killed.part"]


def test_a_cache_that_cannot_be_written_names_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LoupeError, match=r"cannot write the demo data to .*file.*LOUPE_CACHE"):
        ensure_shapes(tmp_path / "file")


def test_the_datamodule_finds_it_by_name(shapes: Path) -> None:
    data = SegmentationDataModule(dataset="shapes", image_size=64)
    data.setup("fit")
    assert data.class_names == ["background", "shape"]
    assert data.describe()[0] == "data: shapes, 160 train, 60 val, 60 test (parts as the data names them)"
