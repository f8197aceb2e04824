"""Pictures of more than 8 bits or other than three channels: PNG and TIFF read exactly, trained on, predicted on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from datamodules import (
    InputReader,
    read_for_display,
    read_image,
)
from datamodules.images import image_size_hw
from errors import LoupeError
from tests.conftest import Outcome

Loupe = Callable[..., Outcome]
RNG = np.random.default_rng(0)
#: Every 16-bit value once and again: what loses the lower byte is found out.
DEEP = RNG.permutation(np.arange(0, 65536, 16, dtype=np.uint16))[: 48 * 64].reshape(48, 64)
DEEP_RGB = np.stack([DEEP, 65535 - DEEP, DEEP[::-1, ::-1]], axis=2)
FIVE = RNG.integers(0, 256, (24, 30, 5), dtype=np.uint8)


def planes(array: np.ndarray) -> torch.Tensor:
    """(H, W[, C]) of 16 bits -> (C, H, W) in 0..1."""
    shaped = array[..., None] if array.ndim == 2 else array
    return torch.from_numpy(np.ascontiguousarray(shaped.transpose(2, 0, 1).astype(np.float32) / 65535))


def write_rgb16_png(path: Path, array: np.ndarray) -> Path:
    """By hand, since Pillow cannot: signature, IHDR, one IDAT, IEND."""
    import struct
    import zlib

    height, width, channels = array.shape

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    colour = {3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    return path


def write(folder: Path, kind: str) -> tuple[Path, torch.Tensor]:
    """A file, and what is in it, (C, H, W) in 0..1."""
    path = folder / f"{kind}.{'png' if 'png' in kind else 'tif'}"
    match kind:
        case "grey png":
            Image.fromarray(DEEP).save(path)
            return path, planes(DEEP)
        case "rgb png":
            return write_rgb16_png(path, DEEP_RGB), planes(DEEP_RGB)
        case "grey tif by Pillow":
            Image.fromarray(DEEP).save(path)
            return path, planes(DEEP)
        case "grey tif":
            tifffile.imwrite(path, DEEP, compression="zlib")
            return path, planes(DEEP)
        case "big endian tif":
            tifffile.imwrite(path, DEEP, byteorder=">")
            return path, planes(DEEP)
        case "rgb tif":
            tifffile.imwrite(path, DEEP_RGB, photometric="rgb")
            return path, planes(DEEP_RGB)
        case "rgb tif in planes":
            tifffile.imwrite(path, DEEP_RGB.transpose(2, 0, 1), photometric="rgb", planarconfig="separate")
            return path, planes(DEEP_RGB)
        case _:
            raise AssertionError(kind)


KINDS = (
    "grey png",
    "rgb png",
    "grey tif by Pillow",
    "grey tif",
    "big endian tif",
    "rgb tif",
    "rgb tif in planes",
)


@pytest.mark.parametrize("kind", KINDS)
def test_sixteen_bits_are_kept(tmp_path: Path, kind: str) -> None:
    path, expected = write(tmp_path, kind)
    own = len(expected)
    picture = read_image(path, own)
    assert picture.dtype == torch.float32
    assert torch.equal(picture, expected)
    assert image_size_hw(path) == (48, 64)
    other = read_image(path, 4 - own)
    if own == 1:
        assert torch.equal(other, expected.expand(3, -1, -1))
    else:  # ITU-R BT.601
        weighed = 0.299 * expected[0] + 0.587 * expected[1] + 0.114 * expected[2]
        torch.testing.assert_close(other[0], weighed, atol=1e-5, rtol=0)
    with pytest.raises(LoupeError, match=f"has {own} channels?, and data.read.in_channels is 5"):
        read_image(path, 5)


def test_a_value_range_is_mapped_to_its_ends_and_cut_there(tmp_path: Path) -> None:
    """12 bits in 16: without a range nearly black."""
    array = np.array([[0, 1024, 2048, 4095, 5000]], np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", array)
    Image.fromarray(array).save(tmp_path / "a.png")
    for name in ("a.tif", "a.png"):
        ranged = read_image(tmp_path / name, 1, (1024.0, 4095.0))[0, 0]
        torch.testing.assert_close(ranged, torch.tensor([0.0, 0.0, 1024 / 3071, 1.0, 1.0]))
        assert read_image(tmp_path / name, 1).max() == pytest.approx(5000 / 65535)
    Image.new("L", (4, 4), 77).save(tmp_path / "byte.png")
    assert (read_image(tmp_path / "byte.png", 1, (0.0, 100.0)) == 77).all(), "bytes are as they are"
    for bad in ((5.0, 5.0), (-np.inf, 5.0), (np.nan, 5.0)):
        with pytest.raises(LoupeError, match=r"value_range is .*; the first must be below the second"):
            read_image(tmp_path / "a.tif", 1, bad)


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [2, 4, 5])
def test_many_channels_both_planar_ways(tmp_path: Path, planar: Any, dtype: Any, channels: int) -> None:
    array = FIVE[..., :channels].astype(dtype) * (257 if dtype == np.uint16 else 1)
    stored = array if planar == "contig" else array.transpose(2, 0, 1)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="minisblack", planarconfig=planar)
    picture = read_image(tmp_path / "a.tif", channels)
    values = picture if dtype == np.uint8 else (picture * 255).round().to(torch.uint8)
    assert picture.dtype == (torch.uint8 if dtype == np.uint8 else torch.float32)
    assert torch.equal(
        values, torch.from_numpy(array.transpose(2, 0, 1) // (257 if dtype == np.uint16 else 1)).byte()
    )
    assert image_size_hw(tmp_path / "a.tif") == (24, 30)
    for wrong in {1, 3, 6} - {channels}:
        with pytest.raises(
            LoupeError, match=rf"a\.tif has {channels} channels, and data.read.in_channels is {wrong}"
        ):
            read_image(tmp_path / "a.tif", wrong)
    shown = read_for_display(tmp_path / "a.tif", channels)
    assert shown.shape == (24, 30, 3) and shown.dtype == np.uint8
    expected = FIVE[..., :3] if channels >= 3 else np.repeat(FIVE[..., :1], 3, axis=2)
    assert np.array_equal(shown, expected)


def test_floats_and_signed_numbers(tmp_path: Path) -> None:
    unit = RNG.random((6, 7), dtype=np.float32)
    for name, array in (
        ("unit", unit),
        ("half", unit.astype(np.float16)),
        ("double", unit.astype(np.float64)),
    ):
        tifffile.imwrite(tmp_path / f"{name}.tif", array)
        picture = read_image(tmp_path / f"{name}.tif", 1)
        assert picture.dtype == torch.float32
        torch.testing.assert_close(picture[0], torch.from_numpy(array.astype(np.float32)), atol=1e-6, rtol=0)
    tifffile.imwrite(tmp_path / "height.tif", unit * 300 - 100)
    with pytest.raises(LoupeError, match=r"height\.tif holds float32 values from -\d.*value_range='\[-"):
        read_image(tmp_path / "height.tif", 1)
    picture = read_image(tmp_path / "height.tif", 1, (-100.0, 200.0))
    torch.testing.assert_close(picture[0], torch.from_numpy(unit), atol=1e-5, rtol=0)
    for dtype in (np.int16, np.int32):
        tifffile.imwrite(tmp_path / "signed.tif", np.array([[-1000, 0, 3000]], dtype))
        with pytest.raises(
            LoupeError, match=r"signed\.tif holds int\d\d values from -1000 to 3000; say which"
        ):
            read_image(tmp_path / "signed.tif", 1)
        picture = read_image(tmp_path / "signed.tif", 1, (-1000.0, 3000.0))
        assert picture[0].tolist() == [[0.0, 0.25, 1.0]]


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("value_range", [None, (0.0, 1.0)])
def test_what_is_no_number_is_refused(
    tmp_path: Path, value: float, value_range: tuple[float, float] | None
) -> None:
    array = np.full((4, 4), 0.5, np.float32)
    array[1, 2] = value
    tifffile.imwrite(tmp_path / "a.tif", array)
    with pytest.raises(LoupeError, match=r"a\.tif holds values that are no numbers \(NaN or infinite\)"):
        read_image(tmp_path / "a.tif", 1, value_range)


def test_pages_are_pictures_or_channels(tmp_path: Path) -> None:
    pages = FIVE.transpose(2, 0, 1).copy()
    with tifffile.TiffWriter(tmp_path / "pages.tif") as file:
        for page in pages:
            file.write(page, contiguous=False, metadata=None)
    tifffile.imwrite(tmp_path / "stack.tif", pages, photometric="minisblack")
    for name in ("pages.tif", "stack.tif"):
        assert torch.equal(read_image(tmp_path / name, 5), torch.from_numpy(pages))
        for wrong in (1, 3, 4):
            with pytest.raises(LoupeError, match=r"holds 5 pictures; save one .*: data.read.in_channels=5"):
                read_image(tmp_path / name, wrong)
    with tifffile.TiffWriter(tmp_path / "sizes.tif") as file:
        file.write(pages[0], metadata=None)
        file.write(pages[0][:8], metadata=None)
    tifffile.imwrite(tmp_path / "colours.tif", np.stack([FIVE[..., :3]] * 2), photometric="rgb")
    for name in ("sizes.tif", "colours.tif"):
        with pytest.raises(LoupeError, match=rf"{name} holds 2 pictures; save one picture a file$"):
            read_image(tmp_path / name, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("channels", [3, 5])
def test_orientation(tmp_path: Path, orientation: int, channels: int) -> None:
    """The judge is Pillow, which turns a picture of 8 bits and three channels."""
    array = FIVE[..., :3]
    judge = tmp_path / "judge.tif"
    Image.fromarray(array).save(judge, tiffinfo={274: orientation})
    upright = read_image(judge, 3)
    wide = np.concatenate([array, array[..., :2]], axis=2)[..., :channels]
    deep = wide.astype(np.uint16) * 257
    tag = [(274, "H", 1, orientation, True)]
    tifffile.imwrite(
        tmp_path / "a.tif",
        deep,
        photometric="rgb" if channels == 3 else "minisblack",
        planarconfig="contig",
        extratags=tag,
    )
    picture = (read_image(tmp_path / "a.tif", channels) * 255).round().byte()
    assert torch.equal(picture[:3], upright)
    assert image_size_hw(tmp_path / "a.tif") == tuple(upright.shape[1:])


def test_channels_of_common_pictures(tmp_path: Path) -> None:
    """Half transparent red, grey, and CMYK, as one, three and four channels."""
    Image.new("RGBA", (4, 4), (255, 0, 0, 128)).save(tmp_path / "rgba.png")
    Image.new("RGBA", (4, 4), (255, 0, 0, 128)).save(tmp_path / "rgba.tif")
    for name in ("rgba.png", "rgba.tif"):
        assert read_image(tmp_path / name, 4)[:, 0, 0].tolist() == [255, 0, 0, 128]
        assert read_image(tmp_path / name, 3)[:, 0, 0].tolist() == [255, 127, 127]
        assert read_image(tmp_path / name, 1)[0, 0, 0] == 165  # 0.299 * 255 + 0.701 * 127
    Image.new("L", (4, 4), 90).save(tmp_path / "grey.png")
    assert read_image(tmp_path / "grey.png", 3)[:, 0, 0].tolist() == [90, 90, 90]
    assert read_image(tmp_path / "grey.png", 1)[:, 0, 0].tolist() == [90]
    Image.new("CMYK", (4, 4), (0, 255, 255, 0)).save(tmp_path / "cmyk.jpg", quality=100)
    red = read_image(tmp_path / "cmyk.jpg", 3)[:, 0, 0]
    assert red[0] > 245 and red[1:].max() < 10
    assert abs(int(read_image(tmp_path / "cmyk.jpg", 1)[0, 0, 0]) - 76) < 6
    for name in ("grey.png", "cmyk.jpg"):
        with pytest.raises(LoupeError, match=r"channels?, and data.read.in_channels is 4"):
            read_image(tmp_path / name, 4)
    deep = np.full((4, 4, 4), 65535, np.uint16)
    deep[..., 1:3], deep[..., 3] = 0, 32896  # 128 * 257
    write_rgb16_png(tmp_path / "deep.png", deep)
    tifffile.imwrite(tmp_path / "deep.tif", deep, photometric="rgb", extrasamples=["unassalpha"])
    for name in ("deep.png", "deep.tif"):
        over = read_image(tmp_path / name, 3)[:, 0, 0]
        torch.testing.assert_close(over, torch.tensor([1.0, 127 / 255, 127 / 255]), atol=1e-4, rtol=0)
        assert read_image(tmp_path / name, 4)[3, 0, 0] == pytest.approx(128 / 255, abs=1e-6)


def test_a_fourth_channel_that_is_no_opacity_is_a_channel(tmp_path: Path) -> None:
    """Near infrared beside red, green and blue, as satellites have it: not laid over white."""
    array = FIVE[..., :4]
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="rgb", extrasamples=["unspecified"])
    assert torch.equal(read_image(tmp_path / "a.tif", 4), torch.from_numpy(array.transpose(2, 0, 1).copy()))
    with pytest.raises(LoupeError, match=r"has 4 channels, and data.read.in_channels is 3"):
        read_image(tmp_path / "a.tif", 3)


def test_damaged_files_are_named(tmp_path: Path) -> None:
    path, _ = write(tmp_path, "rgb tif")
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(LoupeError, match=r"cannot read .*rgb tif\.tif"):
        read_image(path)
    with pytest.raises(LoupeError, match=r"data.read.in_channels is 0; it must be at least 1"):
        InputReader({"image_size": [8, 8], "resize": "stretch", "in_channels": 0})


def test_arrays_that_an_input_reader_takes_and_refuses() -> None:
    reader = InputReader({"image_size": [48, 64], "resize": "stretch", "in_channels": 3})
    assert torch.equal(reader(DEEP_RGB)["image"], planes(DEEP_RGB))
    assert torch.equal(reader(DEEP)["image"], planes(DEEP).expand(3, -1, -1))
    assert torch.equal(reader(planes(DEEP_RGB).permute(1, 2, 0).double().numpy())["image"], planes(DEEP_RGB))
    for bad in (np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8, 3), np.int32), np.zeros((0, 8, 3), np.uint8)):
        with pytest.raises(LoupeError, match="a picture must be a uint8 array in RGB"):
            reader(bad)
    with pytest.raises(LoupeError, match="the picture holds float32 values from 0 to 255; say which"):
        reader(np.array([[0, 255]], np.float32))
