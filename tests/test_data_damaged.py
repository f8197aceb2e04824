"""Damaged files are refused by name; no flipped byte ends the process, as it did in torchvision's PNG decoder."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from datamodules import read_image
from datamodules.images import UnreadableError, image_size_hw
from datamodules.png import is_deep_colour, is_intact
from errors import LoupeError
from tests.test_data_deep import write_rgb16_png

ROOT = Path(__file__).resolve().parent.parent

#: Flips each byte in turn and reads; prints how often that was refused, and how often not.
FLIP = """
import sys, warnings
sys.path.insert(0, {root!r})
from pathlib import Path
from datamodules import read_image
from errors import LoupeError
warnings.simplefilter("ignore")
for path in map(Path, {paths!r}):
    copy = path.with_suffix(".copy")
    data, refused, read = path.read_bytes(), 0, 0
    for place in range(8, len(data), max(1, len(data) // 300)):
        copy.write_bytes(data[:place] + bytes([data[place] ^ 0x5A]) + data[place + 1:])
        try:
            read_image(copy)
            read += 1
        except LoupeError as error:
            assert copy.name in str(error), error
            refused += 1
    print(refused, read, path.name, sep=";", flush=True)
"""


def noise(channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (24, 31, channels), dtype=np.uint8)


def write(path: Path, kind: str) -> Path:
    match kind:
        case "png":
            Image.fromarray(noise()).save(path, format="png")
        case "png with palette":
            Image.fromarray(noise()).quantize(16).save(path, format="png")
        case "png of 16 bits":
            Image.fromarray(noise()[..., 0].astype(np.uint16) * 200).save(path, format="png")
        case "png of 16 bits and colours":
            write_rgb16_png(path, noise().astype(np.uint16) * 200)
        case "tiff of 16 bits and colours":
            tifffile.imwrite(path, noise().astype(np.uint16) * 200, photometric="rgb", compression="zlib")
        case suffix:
            Image.fromarray(noise()).save(path, format=suffix)
    return path


#: Whether the format has sums, so that nearly every flip is found out.
HAS_SUMS = {
    "png": True,
    "png with palette": True,
    "png of 16 bits": True,
    "png of 16 bits and colours": True,
    "tiff of 16 bits and colours": False,
    "jpeg": False,
    "bmp": False,
    "gif": False,
    "tiff": False,
    "webp": False,
}


@pytest.fixture(scope="module")
def flipped(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, int]]:
    """For each kind how many flips were refused, and how many read, in one process; kinds after its end are missing."""
    folder = tmp_path_factory.mktemp("flipped")
    paths = [str(write(folder / kind, kind)) for kind in HAS_SUMS]
    code = FLIP.format(root=str(ROOT), paths=paths)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=250)
    rows = [line.split(";") for line in done.stdout.splitlines()]
    found = {kind: (int(refused), int(read)) for refused, read, kind in rows}
    assert done.returncode == 0, f"after {list(found)}: {done.stderr[-600:]}"
    return found


@pytest.mark.parametrize("kind", HAS_SUMS)
def test_no_flipped_byte_ends_the_process(flipped: dict[str, tuple[int, int]], kind: str) -> None:
    refused, read = flipped[kind]
    assert refused + read >= 100
    assert refused >= (0.9 * (refused + read) if HAS_SUMS[kind] else 1)


def test_a_picture_larger_than_any_memory_is_refused(tmp_path: Path) -> None:
    data = bytearray(write(tmp_path / "a.bmp", "bmp").read_bytes())
    data[18:26] = (50_000).to_bytes(4, "little") * 2
    (tmp_path / "a.bmp").write_bytes(bytes(data))
    for ask in (read_image, image_size_hw):
        with pytest.raises(UnreadableError, match=r"cannot read .*a\.bmp: Image size \(2500000000 pixels\)"):
            ask(tmp_path / "a.bmp")


def test_which_png_needs_which_decoder(tmp_path: Path) -> None:
    deep = write(tmp_path / "deep.png", "png of 16 bits and colours").read_bytes()
    assert is_deep_colour(deep) and is_intact(deep)
    for kind in ("png", "png with palette", "png of 16 bits"):
        assert not is_deep_colour(write(tmp_path / "other.png", kind).read_bytes())
    assert not is_intact(deep[:-20]) and not is_intact(deep[:60] + b"\0" + deep[61:])


def test_transparent_grey_and_colour_lie_on_white(tmp_path: Path) -> None:
    """One colour of a PNG without an opacity channel may be declared transparent."""
    for mode, clear, shown in (("L", 7, [255] * 3), ("RGB", (1, 2, 3), [255] * 3)):
        image = Image.new(mode, (2, 1), clear)
        image.putpixel((1, 0), 90 if mode == "L" else (90, 91, 92))
        image.save(tmp_path / "a.png", transparency=clear)
        pixels = read_image(tmp_path / "a.png")[:, 0].T.tolist()
        assert pixels == [shown, [90] * 3 if mode == "L" else [90, 91, 92]]


def test_a_deep_png_that_is_damaged_is_named(tmp_path: Path) -> None:
    data = write(tmp_path / "a.png", "png of 16 bits and colours").read_bytes()
    (tmp_path / "a.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(LoupeError, match=r"a\.png"):
        read_image(tmp_path / "a.png")
    with io.BytesIO(data) as stream, Image.open(stream) as image:
        assert image.mode == "RGB"  # what Pillow would have made of it, at 8 bits
