"""Which pictures are opened at all: of the formats that are meant, and of no more pixels than memory is for."""

import struct
from functools import cache

from PIL import Image

__all__ = ["claims_too_much", "formats", "most_pixels"]

#: Pillow knows forty formats, by what is in a file, whatever its name; one of them (EPS) starts Ghostscript.
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "MPO", "DIB", "JPEG2000", "AVIF")
_PNG = b"\x89PNG\r\n\x1a\n"
_WITHOUT_SIZE = frozenset({0x01, *range(0xD0, 0xD9)})  # JPEG's markers that stand alone
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # those that begin a picture, and hold its size


@cache
def formats() -> tuple[str, ...]:
    """The formats that Pillow may open, of those that this version of it has."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def most_pixels() -> int:
    """Pixels of the largest picture that is decoded: twice Pillow's `Image.MAX_IMAGE_PIXELS`, where Pillow refuses."""
    return 2 * (Image.MAX_IMAGE_PIXELS or 2**62)


def claims_too_much(data: bytes) -> bool:
    """Whether these bytes are a JPEG or a PNG of more pixels than that; their decoders take the memory unasked."""
    width = height = 0
    try:
        if data.startswith(_PNG):
            width, height = struct.unpack_from(">II", data, 16)
        else:
            height, width = _jpeg_size_hw(data)
    except (struct.error, IndexError):
        return False  # the decoder says what is wrong
    return width * height > most_pixels()


def _jpeg_size_hw(data: bytes) -> tuple[int, int]:
    """Of the largest frame before the pixels begin; IndexError or struct.error where the file ends before."""
    place, found = 2, (0, 0)
    while True:
        if data[place] != 0xFF:
            place += 1  # decoders look for the next marker too
            continue
        marker = data[place + 1]
        if marker == 0xFF:
            place += 1
        elif marker in _WITHOUT_SIZE or marker == 0:
            place += 2
        elif marker in (0xDA, 0xD9):
            return found
        else:
            if marker in _FRAMES:
                height, width = struct.unpack_from(">HH", data, place + 5)
                found = max(found, (height, width), key=lambda size: size[0] * size[1])
            place += 2 + struct.unpack_from(">H", data, place + 2)[0]
