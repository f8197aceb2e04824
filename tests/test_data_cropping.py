"""Boxes: what a manifest says, where they lie in the network's input, how they follow the augmentation."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import Augment, CropDataModule, Draw, Loader, Split
from datamodules.formats import box_of, find_boxes
from datamodules.options import BoxRead
from errors import LoupeError

ORIENTATION = 0x0112


def manifest(root: Path, rows: list[str], *, size: tuple[int, int] = (40, 20), header: str = "") -> Path:
    for row in rows:
        if row.split(",")[0] and not (root / row.split(",")[0]).exists():
            Image.new("RGB", size).save(root / row.split(",")[0])
    file = root / "manifest.csv"
    file.write_text("\n".join([header or "path,x1,y1,x2,y2,split", *rows]) + "\n")
    return file


def module(root: Path, **arguments: Any) -> CropDataModule:
    arguments = {"image_size": 40, "loader": Loader(batch_size=4, num_workers=0), **arguments}
    data = CropDataModule(str(root), **arguments)
    data.setup("fit")
    return data


def draw(data: CropDataModule, part: str, index: int, epoch: int = 0) -> dict[str, torch.Tensor]:
    batch = data._datasets.of_part(part)[[Draw(index, epoch, index, True)]]  # pyright: ignore
    return {key: value[0] for key, value in batch.items()}


# --- the manifest -------------------------------------------------------------------------------------------------


def test_of_several_boxes_the_largest_counts_and_empty_fields_are_no_object(tmp_path: Path) -> None:
    file = manifest(
        tmp_path,
        ["a.png,0,0,4,4,train", "a.png,10,2,20,12,train", "b.png,,,,,train", "c.png,1.5,0,40,20,val"],
    )
    samples = find_boxes(file)
    assert samples.names == ["a.png", "b.png", "c.png"]
    assert [box_of(samples, row) for row in range(3)] == [(10, 2, 20, 12), None, (1.5, 0, 40, 20)]


def test_one_picture_under_two_spellings_is_one(tmp_path: Path) -> None:
    samples = find_boxes(manifest(tmp_path, ["a.png,0,0,4,4,train", "./a.png,0,0,9,9,train"]))
    assert len(samples) == 1
    assert box_of(samples, 0) == (0, 0, 9, 9)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["a.png,1,2,3,,train"], r"a.png has the box x1 1, y1 2, x2 3, y2 \(empty\); give all four, or none"),
        (["a.png,1,2,one,9,train"], r"they must be numbers of pixels"),
        (["a.png,1,2,inf,9,train"], r"they must be numbers of pixels"),
        (["a.png,9,2,3,9,train"], r"empty or inverted"),
        (["a.png,3,2,3,9,train"], r"empty or inverted"),
        (["a.png,3,2,41,9,train"], r"a.png is 40x20 .*its box 3, 2, 41, 9 .* reaches beyond"),
        (["a.png,-1,2,4,9,train"], r"reaches beyond"),
        (["a.png,1,2,4,9,train", "a.png,1,2,5,9,val"], r"a.png in train and in val; keep it in one part"),
        (["a.png,,,,,train", "b.png,1,1,9,9,val"], r"no picture of the train part has a box"),
    ],
)
def test_what_cannot_be_right_is_refused(tmp_path: Path, rows: list[str], message: str) -> None:
    with pytest.raises(LoupeError, match=message):
        module(manifest(tmp_path, rows))


def test_missing_columns_and_missing_manifest_are_told(tmp_path: Path) -> None:
    with pytest.raises(LoupeError, match=r"has no manifest.csv \(columns path,x1,y1,x2,y2\[,split\]\)"):
        module(tmp_path)
    with pytest.raises(LoupeError, match=r"lacks the column y2; it has: path, x1, y1, x2"):
        module(manifest(tmp_path, ["a.png,1,2,3"], header="path,x1,y1,x2"))


def test_drawn_parts_share_the_pictures_without_an_object(tmp_path: Path) -> None:
    rows = [f"{n:02d}.png,{'1,1,9,9' if n % 5 else ',,,'}" for n in range(50)]
    data = module(manifest(tmp_path, rows, header="path,x1,y1,x2,y2"), split=Split(val=0.2, test=0.2))
    for part, count, empty in (("train", 30, 6), ("val", 10, 2), ("test", 10, 2)):
        entries = data.samples[part].columns["x1"]
        assert (len(entries), entries.count("")) == (count, empty)
    assert data.describe()[1] == "boxes: 24 train, 8 val, 8 test"


# --- the way into the network's input -----------------------------------------------------------------------------


def test_box_in_the_letterbox(tmp_path: Path) -> None:
    """40x20 into 40x40: scale 1, ten rows above."""
    data = module(manifest(tmp_path, ["a.png,4,2,12,10,train", "b.png,,,,,val"]))
    sample = draw(data, "train", 0)
    assert sample["box"].tolist() == pytest.approx([4 / 40, 12 / 40, 12 / 40, 20 / 40])
    assert bool(sample["has_box"])
    assert not bool(draw(data, "val", 0)["has_box"])
    assert (sample["box"].dtype, sample["has_box"].dtype) == (torch.float32, torch.bool)


def test_box_counts_on_the_upright_picture(tmp_path: Path) -> None:
    """Stored 40x20 and turned by its EXIF tag: upright 20 wide and 40 high."""
    image = Image.new("RGB", (40, 20))
    exif = image.getexif()
    exif[ORIENTATION] = 6
    image.save(tmp_path / "a.jpg", exif=exif)
    data = module(manifest(tmp_path, ["a.jpg,0,20,20,40,train", "b.png,,,,,val"]))
    assert draw(data, "train", 0)["box"].tolist() == pytest.approx([10 / 40, 20 / 40, 30 / 40, 1.0])
    with pytest.raises(LoupeError, match=r"a.jpg is 20x40"):
        module(manifest(tmp_path, ["a.jpg,0,0,40,20,train"]))


@pytest.mark.parametrize("preset", ["light", "medium", "strong"])
def test_box_follows_the_picture_through_the_augmentation(tmp_path: Path, preset: str) -> None:
    """A white block on black: where it is seen afterwards is where the box is."""
    rng = np.random.default_rng(1)
    rows = []
    for n in range(6):
        x, y = rng.integers(8, 28, 2)
        w, h = rng.integers(16, 28, 2)
        pixels = np.zeros((64, 64, 3), np.uint8)
        pixels[y : y + h, x : x + w] = 255
        Image.fromarray(pixels).save(tmp_path / f"{n}.png")
        rows.append(f"{n}.png,{x},{y},{x + w},{y + h},{'train' if n else 'val'}")
    data = module(manifest(tmp_path, rows), augment=Augment(preset), image_size=64)
    moved = 0
    for epoch in range(8):
        for index in range(5):
            sample = draw(data, "train", index, epoch)
            grey = sample["image"].float().mean(0)
            bright = (grey > 0.8 * grey.max()).nonzero().float()
            seen = torch.tensor([*bright.amin(0).flip(0), *(bright.amax(0).flip(0) + 1)]) / 64
            assert (sample["box"] - seen).abs().max() <= 2.0 / 64, (epoch, index)
            moved += int(not torch.allclose(sample["box"], draw(data, "train", index, 99)["box"]))
    assert moved > 10


def test_an_object_that_was_moved_out_of_sight_is_none(tmp_path: Path) -> None:
    data = module(manifest(tmp_path, ["a.png,0,0,4,4,train", "b.png,1,1,2,2,val"]))
    target = data.target(data.samples["train"])
    gone = target.finish(
        {
            "image": torch.zeros(3, 40, 40),
            "box": torch.tensor([[0.0, 5, 0, 9]]),
            "has_box": torch.tensor(True),
        }
    )
    assert not bool(gone["has_box"])


@pytest.mark.real_data
def test_bccd_as_it_is(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "bccd"
    with (folder / "boxes_all.csv").open() as stream:
        cells = [row for row in csv.DictReader(stream) if row["class"] == "WBC"]
    with_cell = {row["file"] for row in cells}
    rows = [
        ",".join([str(folder / "images" / r["file"]), *(r[k] for k in ("x1", "y1", "x2", "y2"))])
        for r in cells
    ]
    rows += [f"{path},,,," for path in sorted((folder / "images").iterdir()) if path.name not in with_cell]
    file = manifest(tmp_path, rows, header="path,x1,y1,x2,y2")
    data = module(file, read=BoxRead(outside_root=True))
    assert sum(len(data.samples[part]) for part in ("train", "val", "test")) == 364
    assert sum(data.samples[part].columns["x1"].count("") for part in ("train", "val", "test")) == 6
