"""Picture and mask files as tensors: upright, of the channels that are asked for, or refused by name."""

import io
import os
import stat
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision.io import ImageReadMode  # and torch.ops.image with it

from datamodules.channels import Pixels, ValueRange, to_channels, to_display, to_unit_range
from datamodules.members import file_of, read_member
from datamodules.picture_limits import claims_too_much, formats
from datamodules.png import is_deep_colour, is_intact
from datamodules.tiff import TIFF, decode_tiff, needs_tifffile, tiff_size_hw
from errors import LoupeError

__all__ = [
    "DAMAGED",
    "IMAGE_SUFFIXES",
    "JPEG",
    "UnreadableError",
    "decode_image",
    "image_size_hw",
    "read_bytes",
    "read_for_display",
    "read_image",
    "read_mask",
    "read_rgb",
    "unreadable",
]

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pnm"}
)

#: How every JPEG file begins.
JPEG = b"\xff\xd8\xff"
_EXIF_ORIENTATION = 0x0112
_TIFF_WIDTH, _TIFF_HEIGHT = 0x0100, 0x0101
# torchvision's decoder of JPEGs, and of PNGs that PIL would cut to 8 bits, by its operator: the Python function has
# warned since 0.29 that it will move to torchcodec (https://github.com/pytorch/vision/pull/9609). Where the operator
# is gone, PIL reads everything else; this goes when torchcodec >= 0.16 can be required.
_decode = getattr(torch.ops.image, "decode_image", None)
_DEEP_MODES = ("I", "F")  # PIL's 16-bit, 32-bit and float modes all begin so


#: What Pillow raises over files that are damaged, or claim to be larger than any memory.
DAMAGED = (
    OSError,
    ValueError,
    SyntaxError,
    TypeError,
    KeyError,
    IndexError,
    EOFError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,  # where warnings are errors
)


class UnreadableError(LoupeError):
    """A file that is missing, empty, truncated, or no picture: nobody's setting would change that."""


def read_image(path: str | Path, in_channels: int = 3, value_range: ValueRange | None = None) -> Tensor:
    """The picture as (in_channels, H, W), turned upright by its EXIF orientation: uint8, or float32 in 0..1.

    Floats where the file has more than 8 bits a channel, see `to_unit_range`. Grey is repeated into three channels,
    colour weighed into one; transparent pixels are laid over white; CMYK and palettes are converted; other numbers of
    channels must be the file's own. Raises LoupeError naming the file where it is unreadable, truncated, of other
    channels, or holds several pictures.
    """
    return decode_image(read_bytes(path), path, in_channels, value_range)


def decode_image(
    data: bytes, path: str | Path, in_channels: int = 3, value_range: ValueRange | None = None
) -> Tensor:
    """As `read_image`, from what is in the file; `path` is for errors."""
    pixels = _decode_fast(data)
    if pixels is None and data.startswith(TIFF) and needs_tifffile(data):
        try:
            pixels = decode_tiff(data, path, in_channels)
        except LoupeError:
            raise
        except ValueError as error:
            raise unreadable(path, error) from error
    if pixels is None:
        pixels = _decode_with_pil(data, path)
    return to_channels(to_unit_range(pixels, value_range, path), in_channels, path)


def read_for_display(
    path: str | Path, in_channels: int = 3, value_range: ValueRange | None = None
) -> np.ndarray:
    """A picture for the eye, (H, W, 3) uint8, upright; of many channels the first three."""
    return to_display(read_image(path, in_channels, value_range))


def read_mask(path: str | Path) -> Tensor:
    """The mask file's values as (H, W) uint8: palette indices, or grey levels.

    Raises LoupeError naming the file where it is unreadable, coloured, or holds values over 255.
    """
    image = _open_upright(read_bytes(path), path)
    if image.mode == "P":
        return torch.from_numpy(np.array(image))
    if image.mode == "1":
        return torch.from_numpy(np.array(image, dtype=np.uint8))
    if image.mode.startswith(_DEEP_MODES):
        deep = np.array(image)
        values = deep.astype(np.uint8)
        if not np.array_equal(values, deep):
            raise LoupeError(
                f"mask {path} has values over 255 or fractions; save class numbers 0..254 as 8-bit PNG"
            )
        return torch.from_numpy(values)
    if image.mode == "L":
        return torch.from_numpy(np.array(image))
    channels = np.array(image.convert("RGB"))
    if (channels != channels[..., :1]).any():
        raise LoupeError(
            f"mask {path} is coloured; say which colour is which class, "
            "data.read.class_colors='{background: [0, 0, 0], car: [255, 0, 0]}', or save it with one number per class "
            "(a palette or grey PNG)"
        )
    return torch.from_numpy(np.ascontiguousarray(channels[..., 0]))


def read_rgb(path: str | Path) -> np.ndarray:
    """A file's colours as (H, W, 3) uint8, upright, palettes resolved; UnreadableError where it cannot be read."""
    return np.array(_open_upright(read_bytes(path), path).convert("RGB"))


def image_size_hw(path: str | Path) -> tuple[int, int]:
    """Height and width of the upright picture in pixels, from the file's header alone."""
    try:
        source = path if file_of(path) == str(path) else io.BytesIO(read_bytes(path))
        with Image.open(source, formats=formats()) as image:
            width, height = image.size
            if image.format == "TIFF":  # some versions of Pillow turn its size already, and only that
                width, height = int(image.tag_v2[_TIFF_WIDTH]), int(image.tag_v2[_TIFF_HEIGHT])  # pyright: ignore
            # the base class's, since that of PNG decodes the whole picture to look behind it
            turned = Image.Image.getexif(image).get(_EXIF_ORIENTATION, 1) in (5, 6, 7, 8)
    except DAMAGED as error:
        if isinstance(error, UnidentifiedImageError) and (data := read_bytes(path)).startswith(TIFF):
            try:
                return tiff_size_hw(data, path)
            except LoupeError:
                raise
            except ValueError as worse:
                raise unreadable(path, worse) from worse
        raise unreadable(path, error) from error
    return (width, height) if turned else (height, width)


def read_bytes(path: str | Path) -> bytes:
    """What is in the file, or in this member of a shard; UnreadableError where it cannot be opened or is empty."""
    try:
        data = read_member(path)
        data = _read_file(path) if data is None else data
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
        raise UnreadableError(f"cannot open {path}: {getattr(error, 'strerror', None) or error}") from error
    if not data:
        raise UnreadableError(f"{path} is an empty file")
    return data


def _read_file(path: str | Path) -> bytes:
    mode = os.stat(path).st_mode  # noqa: PTH116  the name as it is, which costs less than a Path
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OSError("it is a pipe or a device")  # reading it may never end
    return Path(path).read_bytes()


def _decode_fast(data: bytes) -> Pixels | None:
    """What libjpeg-turbo or libpng makes of it, or None where PIL must decide."""
    is_jpeg = data.startswith(JPEG)
    if _decode is None or not (is_jpeg or is_deep_colour(data)):
        return None
    if claims_too_much(data):
        return None  # Pillow refuses it by name
    if not is_jpeg and not is_intact(data):
        return None  # a damaged PNG ends the process there (torchvision 0.29), and not in PIL
    try:
        buffer = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        picture: Tensor = _decode(buffer, ImageReadMode.UNCHANGED.value, True)
    except RuntimeError:
        return None
    channels = picture.shape[0]
    if is_jpeg and channels == 4:
        return None  # CMYK
    return Pixels(picture, has_alpha=channels in (2, 4))


def _decode_with_pil(data: bytes, path: str | Path) -> Pixels:
    image = _open_upright(data, path)
    if image.mode.startswith(_DEEP_MODES):
        if (image.mode == "I" and image.format == "PNG") or image.mode.startswith("I;16"):
            return Pixels(torch.from_numpy(np.array(image).astype(np.uint16))[None])
        return Pixels(torch.from_numpy(np.array(image))[None])
    if is_deep_colour(data):
        if _decode is not None:
            raise UnreadableError(
                f"cannot read {path}: a checksum, a chunk or the length of its rows is wrong"
            )
        raise LoupeError(
            f"{path} has 16 bits a channel, of which Pillow keeps 8; it needs torchvision's decoder"
        )
    has_alpha = image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
    if image.mode != "L" or has_alpha:
        image = image.convert("RGBA" if has_alpha else "RGB")
    array = np.array(image)
    array = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
    return Pixels(torch.from_numpy(array), has_alpha)


def _open_upright(data: bytes, path: str | Path) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data), formats=formats())
        if getattr(image, "n_frames", 1) > 1:
            raise LoupeError(
                f"{path} holds {getattr(image, 'n_frames', 1)} pictures; save one picture a file"
            )
        image.load()
        return ImageOps.exif_transpose(image)
    except LoupeError:
        raise
    except DAMAGED as error:
        raise unreadable(path, error) from error


def unreadable(path: str | Path, error: Exception) -> UnreadableError:
    """The error for a file that a decoder could not make sense of."""
    reason = "not a picture that PIL knows" if isinstance(error, UnidentifiedImageError) else str(error)
    return UnreadableError(f"cannot read {path}: {reason}")
