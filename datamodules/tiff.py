"""TIFF files of more channels or bits than Pillow reads: microscopes, satellites, industrial cameras."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from datamodules.channels import Pixels
from datamodules.picture_limits import formats
from errors import LoupeError

__all__ = ["TIFF", "decode_tiff", "needs_tifffile", "tiff_size_hw"]

#: How TIFF files begin: little and big endian, and both again for files over 4 GB.
TIFF = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")

_BITS, _SAMPLES, _EXTRA, _ORIENTATION = 258, 277, 338, 274
_OPACITY = (1, 2)  # of ExtraSamples: with and without colours multiplied by it
_LARGE = 2**30  # bytes decoded; a file that holds less than a 50th of that is believed no more
_MOST_PACKED = 50
_PLAIN_MODES = ("L", "LA", "RGB", "RGBA")  # of Pillow: what such a file has beside them is a channel


def needs_tifffile(data: bytes) -> bool:
    """Whether Pillow would not read these bytes, or would lose something: it cuts 16-bit colours to 8 bits unasked."""
    try:
        with Image.open(io.BytesIO(data), formats=formats()) as image:
            tags: Any = getattr(image, "tag_v2", {})
            bits, samples = tags.get(_BITS, (8,)), tags.get(_SAMPLES, 1)
            deep_colours = max(bits) > 8 and samples > 1
            extra = tags.get(_EXTRA, ())
            more = samples > len(image.getbands()) and image.mode in _PLAIN_MODES
            unknown = image.mode in ("RGBA", "RGBX") and not set(extra) <= set(_OPACITY)
            return deep_colours or more or unknown or getattr(image, "n_frames", 1) > 1
    except Exception:  # whatever a damaged header makes Pillow raise: tifffile says what is wrong
        return True


def decode_tiff(data: bytes, path: str | Path, in_channels: int) -> Pixels:
    """The one picture in a TIFF, upright; its pages are taken for channels where `in_channels` says so.

    Raises ValueError where the file is damaged, LoupeError where it holds several pictures.
    """
    tifffile = _tifffile(path)
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            series, page = file.series[0], file.pages[0]
            several = len(file.series)
            size = int(np.prod(series.shape, dtype=object)) * series.dtype.itemsize
            if size > _LARGE and size > _MOST_PACKED * len(data):
                raise ValueError(f"it claims to hold {size} bytes, {size // len(data)} times its own")
            axes, array = series.axes, series.asarray()
            tags = page.tags
            extra = tags[_EXTRA].value if _EXTRA in tags else ()
            orientation = tags[_ORIENTATION].value if _ORIENTATION in tags else 1
    except LoupeError:
        raise
    except Exception as error:  # tifffile raises whatever its codecs raise
        raise ValueError(f"{type(error).__name__}: {error}") from error
    kept = [axis for axis, size in zip(axes, array.shape, strict=True) if size > 1 or axis in "YX"]
    array = array.reshape([size for axis, size in zip(axes, array.shape, strict=True) if axis in kept])
    others = [axis for axis in kept if axis not in "YX"]
    pages = array.shape[kept.index(others[0])] if others and others[0] not in "SC" else 1
    planes = several == 1 and len(others) == 1  # whether the pages may be channels
    if several > 1 or len(others) > 1 or (pages > 1 and pages != in_channels):
        stacked = [several] if several > 1 else [array.shape[kept.index(a)] for a in others if a != "S"]
        raise LoupeError(
            f"{path} holds {int(np.prod(stacked))} pictures; save one picture a file"
            + (f", or take them for channels: data.read.in_channels={pages}" if planes else "")
        )
    order = [*(kept.index(axis) for axis in others), kept.index("Y"), kept.index("X")]
    values = np.ascontiguousarray(array.transpose(order).reshape(-1, *array.transpose(order).shape[-2:]))
    extra = extra if isinstance(extra, tuple) else (extra,)
    has_alpha = bool(extra) and extra[-1] in _OPACITY and values.shape[0] in (2, 4)
    return Pixels(torch.from_numpy(_upright(_native(values), int(orientation))), has_alpha)


def tiff_size_hw(data: bytes, path: str | Path) -> tuple[int, int]:
    """Height and width of the upright picture; ValueError where the file is damaged."""
    tifffile = _tifffile(path)
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = file.pages[0]
            orientation = page.tags[_ORIENTATION].value if _ORIENTATION in page.tags else 1
            height, width = int(page.imagelength), int(page.imagewidth)
    except Exception as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error
    return (width, height) if int(orientation) in (5, 6, 7, 8) else (height, width)


def _tifffile(path: str | Path) -> Any:
    try:
        import tifffile
    except ImportError:
        raise LoupeError(
            f"{path} is a TIFF file that needs tifffile; install it with pip install 'loupe-vision[tiff]'"
        ) from None
    return tifffile


def _native(values: np.ndarray) -> np.ndarray:
    """In this machine's byte order, and of a type that torch has."""
    if values.dtype == bool:
        return values.astype(np.uint8) * 255
    if values.dtype == np.float16:
        return values.astype(np.float32)
    if str(values.dtype.newbyteorder("=")) in ("uint32", "uint64"):
        return values.astype(np.float64)
    return values.astype(values.dtype.newbyteorder("="))


def _upright(values: np.ndarray, orientation: int) -> np.ndarray:
    """(C, H, W) turned as the orientation tag says; what it does not define is left as it is."""
    match orientation:
        case 2:
            turned = values[:, :, ::-1]
        case 3:
            turned = values[:, ::-1, ::-1]
        case 4:
            turned = values[:, ::-1]
        case 5:
            turned = values.transpose(0, 2, 1)
        case 6:
            turned = values.transpose(0, 2, 1)[:, :, ::-1]
        case 7:
            turned = values.transpose(0, 2, 1)[:, ::-1, ::-1]
        case 8:
            turned = values.transpose(0, 2, 1)[:, ::-1]
        case _:
            turned = values
    return np.ascontiguousarray(turned)
