"""Coloured masks: each colour its class, in the named order, and no colour goes by unnoticed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import Loader, MaskRead, SegmentationDataModule
from datamodules.mask_colors import ClassColors
from errors import LoupeError

COLORS: dict[str, list[int] | str] = {
    "sky": [10, 20, 250],
    "void": "#ffffff",
    "road": "804080",
    "car": [255, 0, 0],
}
SKY, VOID, ROAD, CAR = (10, 20, 250), (255, 255, 255), (128, 64, 128), (255, 0, 0)


def folder(tmp_path: Path, pixels: Any = (SKY, ROAD, CAR, VOID)) -> Path:
    for part in ("train", "val"):
        for kind in ("images", "masks"):
            (tmp_path / part / kind).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (len(pixels), 1)).save(tmp_path / part / "images/a.png")
        Image.fromarray(np.array([pixels], dtype=np.uint8)).save(tmp_path / part / "masks/a.png")
    return tmp_path


def module(root: Path, **read: Any) -> SegmentationDataModule:
    options = MaskRead(**{"class_colors": COLORS, "resize": "stretch", **read})
    data = SegmentationDataModule(
        str(root), image_size=(1, 4), read=options, loader=Loader(batch_size=1, num_workers=0)
    )
    data.setup("fit")
    return data


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_colours_are_classes_in_the_named_order(tmp_path: Path, mode: str) -> None:
    root = folder(tmp_path)
    for file in root.glob("*/masks/a.png"):
        Image.open(file).convert(mode, palette=Image.Palette.ADAPTIVE).save(file)
    data = module(root)
    assert data.class_names == ["sky", "road", "car"]
    assert data.num_classes == 3
    assert next(iter(data.val_dataloader()))["mask"].tolist() == [[[0, 1, 2, 255]]]
    assert data.class_counts() == [1, 1, 1]


def test_another_order_is_other_numbers_although_masks_are_remembered(tmp_path: Path) -> None:
    root = folder(tmp_path)
    module(root)
    turned = dict(reversed(COLORS.items()))
    data = module(root, class_colors=turned)
    assert data.class_names == ["car", "road", "sky"]
    assert next(iter(data.val_dataloader()))["mask"].tolist() == [[[2, 1, 0, 255]]]


def test_a_strange_colour_is_named_with_its_file(tmp_path: Path) -> None:
    root = folder(tmp_path, (SKY, ROAD, (1, 2, 3), (1, 2, 3)))
    with pytest.raises(LoupeError, match=r"a\.png has colours .*: \[1, 2, 3\] \(2 pixels\)"):
        module(root)


def test_a_lossy_mask_is_recognised(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (1, 200, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "m.png")
    with pytest.raises(LoupeError, match="more; a mask saved as JPEG looks like this"):
        ClassColors(COLORS).read(tmp_path / "m.png")


def test_a_coloured_mask_without_colours_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(
        LoupeError, match=r"is coloured; say which colour is which class, data\.read\.class_colors"
    ):
        module(folder(tmp_path), class_colors=None)


@pytest.mark.parametrize(
    ("colors", "message"),
    [
        ({"a": [0, 0], "b": [1, 1, 1]}, r"class_colors\.a is \[0, 0\]; valid"),
        ({"a": [0, 0, 256]}, r"class_colors\.a"),
        ({"a": "#12345"}, r"class_colors\.a"),
        ({"a": "#gggggg"}, r"class_colors\.a"),
        ({"a": [0, 0, 0], "b": "#000000"}, r"gives a and b one colour, \[0, 0, 0\]"),
        ({"void": [0, 0, 0]}, "names no class"),
    ],
)
def test_colours_that_cannot_be(colors: dict[str, Any], message: str) -> None:
    with pytest.raises(LoupeError, match=message):
        ClassColors(colors)


def test_two_ways_of_saying_it_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LoupeError, match=r"class_colors and data\.read\.class_names are both set"):
        module(folder(tmp_path), class_names=["a", "b"])
    with pytest.raises(LoupeError, match="names one class"):
        module(folder(tmp_path, (SKY,) * 4), class_colors={"sky": [10, 20, 250]})


def test_every_colour_is_found() -> None:
    g = np.random.default_rng(1)
    picked = [tuple(int(v) for v in color) for color in g.integers(0, 256, (40, 3))]
    colors = ClassColors({f"class {i}": list(color) for i, color in enumerate(picked)})
    values = g.integers(0, 40, (30, 30))
    mask = np.array(picked, dtype=np.uint8)[values]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datamodules.mask_colors.read_rgb", lambda _: mask)
        assert torch.equal(colors.read("any").long(), torch.from_numpy(values))
