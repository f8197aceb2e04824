"""Picture and mask files as uint8 tensors: upright, three channels, or refused by name."""

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision.io import ImageReadMode  # and torch.ops.image with it

from errors import LoupeError

__all__ = [
    "IMAGE_SUFFIXES",
    "JPEG",
    "UnreadableError",
    "decode_image",
    "image_size_hw",
    "read_bytes",
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
_PNG = b"\x89PNG\r\n\x1a\n"
_EXIF_ORIENTATION = 0x0112
_TIFF_WIDTH, _TIFF_HEIGHT = 0x0100, 0x0101
# torchvision's decoder, twice as fast as PIL, by its operator: the Python function has warned since 0.29 that it will
# move to torchcodec (https://github.com/pytorch/vision/pull/9609). Where the operator is gone, PIL reads everything;
# this goes when torchcodec >= 0.16 can be required.
_decode = getattr(torch.ops.image, "decode_image", None)
_DEEP_MODES = ("I", "F")  # PIL's 16-bit, 32-bit and float modes all begin so


class UnreadableError(LoupeError):
    """A file that is missing, empty, truncated, or no picture: nobody's setting would change that."""


def read_image(path: str | Path) -> Tensor:
    """The picture as (3, H, W) uint8 RGB, turned upright by its EXIF orientation.

    Grey is repeated into three channels; transparent pixels are laid over white (a fully opaque alpha channel is
    dropped); CMYK and palettes are converted. Raises LoupeError naming the file where it is unreadable, truncated,
    deeper than 8 bits, or holds several pictures.
    """
    return decode_image(read_bytes(path), path)


def decode_image(data: bytes, path: str | Path) -> Tensor:
    """As `read_image`, from what is in the file; `path` is for errors."""
    picture = _decode_fast(data, path)
    if picture is None:
        picture = torch.from_numpy(_decode_with_pil(data, path))
    return _to_rgb(picture)


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
        with Image.open(path) as image:
            width, height = image.size
            if image.format == "TIFF":  # some versions of Pillow turn its size already, and only that
                width, height = int(image.tag_v2[_TIFF_WIDTH]), int(image.tag_v2[_TIFF_HEIGHT])  # pyright: ignore
            # the base class's, since that of PNG decodes the whole picture to look behind it
            turned = Image.Image.getexif(image).get(_EXIF_ORIENTATION, 1) in (5, 6, 7, 8)
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError) as error:
        raise unreadable(path, error) from error
    return (width, height) if turned else (height, width)


def read_bytes(path: str | Path) -> bytes:
    """What is in the file; UnreadableError where it cannot be opened or is empty."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UnreadableError(f"cannot open {path}: {error.strerror or error}") from error
    if not data:
        raise UnreadableError(f"{path} is an empty file")
    return data


def _decode_fast(data: bytes, path: str | Path) -> Tensor | None:
    """(C, H, W) by libjpeg-turbo or libpng, or None where PIL must decide."""
    if data.startswith(_PNG):
        bit_depth, colour_type = data[24], data[25]
        if bit_depth == 16:
            raise _too_deep(path)
        if colour_type == 3:  # torchvision loses the transparency of palettes
            return None
    elif not data.startswith(JPEG):
        return None
    if _decode is None:
        return None
    try:
        buffer = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        picture: Tensor = _decode(buffer, ImageReadMode.UNCHANGED.value, True)
    except RuntimeError:
        return None
    is_cmyk = data.startswith(JPEG) and picture.shape[0] == 4
    return None if is_cmyk else picture


def _decode_with_pil(data: bytes, path: str | Path) -> np.ndarray:
    image = _open_upright(data, path)
    if image.mode.startswith(_DEEP_MODES):
        raise _too_deep(path)
    if image.mode in ("LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
    elif image.mode != "RGBA":
        image = image.convert("RGB")
    return np.ascontiguousarray(np.array(image).transpose(2, 0, 1))


def _open_upright(data: bytes, path: str | Path) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data))
        if getattr(image, "n_frames", 1) > 1:
            raise LoupeError(
                f"{path} holds {getattr(image, 'n_frames', 1)} pictures; save one picture a file"
            )
        image.load()
        return ImageOps.exif_transpose(image)
    except LoupeError:
        raise
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError) as error:
        raise unreadable(path, error) from error


def _to_rgb(picture: Tensor) -> Tensor:
    channels = picture.shape[0]
    if channels == 3:
        return picture
    if channels == 1:
        return picture.expand(3, -1, -1).contiguous()
    assert channels in (2, 4), channels
    colour, alpha = picture[:-1], picture[-1:]
    if int(alpha.min()) < 255:
        weight = alpha.to(torch.int32)
        colour = ((colour * weight + 255 * (255 - weight) + 127) // 255).to(torch.uint8)
    return colour.expand(3, -1, -1).contiguous()


def unreadable(path: str | Path, error: Exception) -> UnreadableError:
    """The error for a file that a decoder could not make sense of."""
    reason = "not a picture that PIL knows" if isinstance(error, UnidentifiedImageError) else str(error)
    return UnreadableError(f"cannot read {path}: {reason}")


def _too_deep(path: str | Path) -> LoupeError:
    return LoupeError(
        f"{path} has more than 8 bits a channel, which is not read yet; save it as 8-bit PNG or JPEG"
    )
