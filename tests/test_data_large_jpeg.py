"""Large JPEGs decoded at a fraction: what comes out is what the whole picture gives, upright, in place, or an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from datamodules.geometry import plan_fit
from datamodules.images import read_image
from datamodules.input_reader import InputReader
from datamodules.large_jpeg import LargeJpeg
from errors import LoupeError


def photo(path: Path, width: int, height: int, *, mode: str = "RGB", orientation: int | None = None) -> Path:
    """Blobs and edges: detail that survives shrinking, and a bright lower right corner."""
    g = np.random.default_rng(0)
    coarse = g.integers(0, 255, (max(2, height // 60), max(2, width // 60), 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    image.paste((255, 255, 255), (width - width // 4, height - height // 8, width, height))
    grain = np.clip(np.asarray(image).astype(int) + g.integers(-9, 9, (height, width, 1)), 0, 255)
    options: dict[str, Any] = {}
    if orientation is not None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        options["exif"] = exif
    Image.fromarray(grain.astype(np.uint8)).convert(mode).save(path, quality=95, **options)
    return path


def opened(path: Path) -> LargeJpeg | None:
    return LargeJpeg.of(path.read_bytes(), path)


def whole(path: Path, contract: dict[str, Any]) -> Tensor:
    """The same from all pixels."""
    reader = InputReader(contract)
    return reader(read_image(path).permute(1, 2, 0).numpy())["image"]


@pytest.mark.parametrize("resize", ["letterbox", "stretch"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(1600, 1200), (1603, 1207), (1009, 2999)])
def test_as_the_whole_picture(tmp_path: Path, size: tuple[int, int], resize: str, interpolation: str) -> None:
    path = photo(tmp_path / "a.jpg", *size)
    assert path.stat().st_size > 100_000
    contract = {"image_size": [96, 128], "resize": resize, "interpolation": interpolation, "in_channels": 3}
    sample = InputReader(contract)(path)
    expected = whole(path, contract)
    assert sample["image"].shape == expected.shape == (3, 96, 128)
    difference = (sample["image"].int() - expected.int()).abs()
    assert difference.float().mean() < 1.0
    assert difference.max() <= 24  # at the corner's edge
    assert sample["size_hw_px"].tolist() == [size[1], size[0]]


@pytest.mark.parametrize("orientation", range(1, 10))
def test_upright(tmp_path: Path, orientation: int) -> None:
    path = photo(tmp_path / "a.jpg", 1600, 1000, orientation=orientation)
    contract = {"image_size": [64, 64], "resize": "letterbox", "interpolation": "bilinear", "in_channels": 3}
    sample, expected = InputReader(contract)(path), whole(path, contract)
    assert (sample["image"].int() - expected.int()).abs().float().mean() < 1.0
    turned = orientation in (5, 6, 7, 8)
    assert sample["size_hw_px"].tolist() == ([1600, 1000] if turned else [1000, 1600])


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_other_colours(tmp_path: Path, mode: str) -> None:
    path = photo(tmp_path / "a.jpg", 1600, 1200, mode=mode)
    contract = {"image_size": [64, 64], "resize": "stretch", "interpolation": "bilinear", "in_channels": 3}
    assert (
        InputReader(contract)(path)["image"].int() - whole(path, contract).int()
    ).abs().float().mean() < 1.5


def test_only_where_it_pays(tmp_path: Path) -> None:
    large = opened(photo(tmp_path / "a.jpg", 1600, 1200))
    assert large is not None
    assert large.is_worth_it_for(plan_fit((1200, 1600), (300, 400), "stretch"))
    assert not large.is_worth_it_for(plan_fit((1200, 1600), (301, 400), "stretch"))
    assert opened(photo(tmp_path / "small.jpg", 200, 100)) is None
    assert opened(photo(tmp_path / "a.png", 400, 400)) is None
    exact = InputReader({"image_size": [600, 800], "resize": "stretch", "in_channels": 3})
    path = tmp_path / "a.jpg"
    assert torch.equal(
        exact(path)["image"], whole(path, {"image_size": [600, 800], "resize": "stretch", "in_channels": 3})
    )


def test_what_is_damaged_is_named(tmp_path: Path) -> None:
    path = photo(tmp_path / "a.jpg", 1600, 1200)
    data = path.read_bytes()
    reader = InputReader({"image_size": [64, 64], "resize": "stretch", "in_channels": 3})
    for broken in (data[: len(data) // 2], data[:3] + bytes(200_000), data[:200] + bytes(200_000)):
        path.write_bytes(broken)
        with pytest.raises(LoupeError, match=r"a\.jpg"):
            reader(path)
