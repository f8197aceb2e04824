"""Reading files: upright, three channels, eight bits, or refused by name."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import InputReader, read_image, read_mask
from datamodules.images import image_size_hw
from errors import LoupeError

RED, HALF = (200, 30, 40), (200, 30, 40, 128)


def gradient(height: int = 20, width: int = 30) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 8, y * 12, x + y], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".webp", ".ppm"])
def test_lossless_formats_come_back_as_written(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    Image.fromarray(gradient()).save(path, **({"lossless": True} if suffix == ".webp" else {}))
    image = read_image(path)
    assert image.dtype == torch.uint8
    np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), gradient())


def test_jpeg_is_what_pil_reads(tmp_path: Path) -> None:
    path = tmp_path / "a.JPG"
    Image.fromarray(gradient(64, 80)).save(path, format="JPEG", quality=95)
    expected = np.asarray(Image.open(path)).astype(int)
    assert np.abs(read_image(path).permute(1, 2, 0).numpy().astype(int) - expected).max() <= 2


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, suffix: str) -> None:
    """Four flat quarters, stored so that the tag turns them back: red is upper left, green upper right."""
    upright = np.zeros((32, 64, 3), np.uint8)
    upright[:16, :32], upright[:16, 32:], upright[16:, :32] = (200, 0, 0), (0, 200, 0), (0, 0, 200)
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # PIL's transpose numbers, inverse of each orientation
    stored = Image.fromarray(upright)
    if orientation > 1:
        stored = stored.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    stored.save(path, exif=exif, quality=95)
    image = read_image(path).int()
    assert image.shape == (3, 32, 64)
    assert image_size_hw(path) == (32, 64)
    for channel, (y, x) in enumerate([(8, 16), (8, 48), (24, 16)]):
        assert image[channel, y, x] > 150
        assert image[:, y, x].sum() < 300


@pytest.mark.parametrize("mode", ["L", "1", "LA"])
def test_grey_becomes_three_equal_channels(tmp_path: Path, mode: str) -> None:
    Image.new("L", (5, 4), 255).convert(mode).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert image.shape == (3, 4, 5)
    assert (image == 255).all()


def test_opaque_alpha_is_dropped_and_transparency_lies_over_white(tmp_path: Path) -> None:
    Image.new("RGBA", (2, 2), (*RED, 255)).save(tmp_path / "opaque.png")
    Image.new("RGBA", (2, 2), HALF).save(tmp_path / "half.png")
    Image.new("RGBA", (2, 2), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert read_image(tmp_path / "opaque.png")[:, 0, 0].tolist() == list(RED)
    # (200 * 128 + 255 * 127) / 255 = 227.4, (30 * 128 + 255 * 127) / 255 = 142.1, 147.1
    assert read_image(tmp_path / "half.png")[:, 0, 0].tolist() == [227, 142, 147]
    assert (read_image(tmp_path / "clear.png") == 255).all()


def test_palettes_and_their_transparency(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "plain.png")
    image.save(tmp_path / "clear.png", transparency=0)
    image.save(tmp_path / "plain.gif")
    assert read_image(tmp_path / "plain.png")[:, 0].T.tolist() == [[10, 20, 30], [200, 100, 50]]
    assert read_image(tmp_path / "clear.png")[:, 0].T.tolist() == [[255, 255, 255], [200, 100, 50]]
    assert read_image(tmp_path / "plain.gif")[:, 0].T.tolist() == [[10, 20, 30], [200, 100, 50]]


def test_cmyk_jpeg_is_read_as_pil_reads_it(tmp_path: Path) -> None:
    Image.new("CMYK", (16, 16), (0, 200, 100, 20)).save(tmp_path / "a.jpg", quality=95)
    expected = np.asarray(Image.open(tmp_path / "a.jpg").convert("RGB"))[0, 0]
    assert read_image(tmp_path / "a.jpg")[:, 0, 0].tolist() == expected.tolist()


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_truncated_files_are_refused_by_name(tmp_path: Path, suffix: str, keep: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)
    path = tmp_path / f"cut.{suffix}"
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(LoupeError, match=f"cannot read .*cut.{suffix}"):
        read_image(path)


def test_what_is_no_picture_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "empty.png").touch()
    with pytest.raises(LoupeError, match=r"cannot read .*text.jpg: not a picture"):
        read_image(tmp_path / "text.jpg")
    with pytest.raises(LoupeError, match=r"empty.png is an empty file"):
        read_image(tmp_path / "empty.png")
    with pytest.raises(LoupeError, match=r"cannot open .*absent.png: No such file"):
        read_image(tmp_path / "absent.png")
    with pytest.raises(LoupeError, match=r"cannot read .*text.jpg"):
        image_size_hw(tmp_path / "text.jpg")


def test_several_pictures_in_one_file_are_refused(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(LoupeError, match=r"a.gif holds 2 pictures"):
        read_image(tmp_path / "a.gif")


def test_mask_values(tmp_path: Path) -> None:
    values = np.array([[0, 1], [2, 255]], np.uint8)
    Image.fromarray(values).save(tmp_path / "grey.png")
    indexed = Image.new("P", (2, 2))
    indexed.putpalette([0, 0, 0, 9, 9, 9, 200, 0, 0])
    indexed.putdata([0, 1, 2, 1])
    indexed.save(tmp_path / "palette.png")
    Image.fromarray(np.stack([values] * 3, axis=-1)).save(tmp_path / "rgb.png")
    Image.fromarray(values > 0).save(tmp_path / "bits.png")
    Image.fromarray(values.astype(np.uint16)).save(tmp_path / "deep.png")
    for name in ("grey", "rgb", "deep"):
        assert read_mask(tmp_path / f"{name}.png").tolist() == values.tolist(), name
        assert read_mask(tmp_path / f"{name}.png").dtype == torch.uint8
    assert read_mask(tmp_path / "palette.png").tolist() == [[0, 1], [2, 1]]
    assert read_mask(tmp_path / "bits.png").tolist() == [[0, 1], [1, 1]]


def test_masks_that_hold_no_class_numbers_are_refused(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2), RED).save(tmp_path / "colour.png")
    Image.fromarray(np.full((2, 2), 300, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(LoupeError, match=r"colour.png is coloured"):
        read_mask(tmp_path / "colour.png")
    with pytest.raises(LoupeError, match=r"deep.png has values over 255"):
        read_mask(tmp_path / "deep.png")


def test_reader_gives_the_same_for_a_file_and_its_array(tmp_path: Path) -> None:
    Image.fromarray(gradient()).save(tmp_path / "a.png")
    reader = InputReader({"image_size": [16, 24], "resize": "letterbox", "in_channels": 3})
    of_file, of_array = reader(tmp_path / "a.png"), reader(gradient())
    assert of_file.keys() == {"image", "size_hw_px", "window_px", "to_original"}
    for key, value in of_file.items():
        assert torch.equal(value, of_array[key]), key
    assert of_file["size_hw_px"].tolist() == [20, 30]
    assert reader(gradient()[..., 0])["image"].shape == (3, 16, 24)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4, 3), np.int32),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((3,), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_reader_refuses_other_arrays(array: np.ndarray) -> None:
    reader = InputReader({"image_size": [8, 8], "resize": "stretch", "in_channels": 3})
    with pytest.raises(LoupeError, match=r"uint8 array in RGB, \(H, W, 3\).*got"):
        reader(array)


@pytest.mark.real_data
def test_real_edge_cases(real_data: Path) -> None:
    folder = real_data / "edge_cases"
    for name, size in [
        ("exif6_IMG_5874.JPG", (3024, 3024)),
        ("exif_orientation_65537.jpg", (321, 480)),
        ("grey.jpg", (183, 275)),
        ("imageNotFound.gif", (300, 300)),
        ("rgba.png", (256, 256)),
    ]:
        assert read_image(folder / name).shape == (3, *size), name
        assert image_size_hw(folder / name) == size, name
    with pytest.raises(LoupeError, match=r"cannot read .*truncated.jpg"):
        read_image(folder / "truncated.jpg")


@pytest.mark.real_data
def test_real_photo_is_turned_by_its_exif(real_data: Path) -> None:
    """Orientation 6: the stored picture turned a quarter clockwise."""
    path = real_data / "edge_cases" / "exif6_IMG_5874.JPG"
    every = (slice(None, None, 8), slice(None, None, 8))
    expected = np.rot90(np.asarray(Image.open(path)), k=-1)[every].astype(int)
    got = read_image(path).permute(1, 2, 0).numpy()[every].astype(int)
    assert np.abs(got - expected).mean() < 1
    assert np.abs(got - np.rot90(expected)).mean() > 10
