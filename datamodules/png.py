"""PNG files before they are decoded: whether Pillow would lose something, and whether they are whole."""

import struct
import zlib
from collections.abc import Iterator

__all__ = ["is_deep_colour", "is_intact"]

_PNG = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_NEEDED = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_LAST_FILTER = 4
#: The first column and row of each of the seven pictures of an interlaced file, and the steps from there.
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def is_deep_colour(data: bytes) -> bool:
    """Whether these bytes are a PNG of 16 bits and more than one channel, of which Pillow keeps 8."""
    return data.startswith(_PNG) and len(data) > 25 and data[24] == 16 and data[25] != 0


def is_intact(data: bytes) -> bool:
    """Whether a decoder that trusts its input may have this file.

    Each chunk's sum is right, no needed chunk is unknown or out of order, the pixels unpack to as many bytes as the
    header says, and each row begins with a filter that there is. No more is unpacked than that.
    """
    packed: list[bytes] = []
    kinds: list[bytes] = []
    place = len(_PNG)
    try:
        while not kinds or kinds[-1] != b"IEND":
            (length,) = struct.unpack_from(">I", data, place)
            body = data[place + 4 : place + 8 + length]
            (expected,) = struct.unpack_from(">I", data, place + 8 + length)
            if zlib.crc32(body) != expected:
                return False
            kinds.append(body[:4])
            if body[:4] == b"IDAT":
                packed.append(body[4:])
            place += 12 + length
        width, height, bits, colour, method, filters, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
        # A capital first letter: whoever decodes must know it.
        needed = [kind for kind in kinds if not kind[0] & 32]
        if (
            kinds[0] != b"IHDR"
            or kinds.count(b"IHDR") > 1
            or not set(needed) <= set(_NEEDED)
            or needed.index(b"IDAT") + len(packed) != len(needed) - 1
            or (b"".join(kinds).count(b"IDAT" * len(packed)) != 1)
            or not (width and height and colour in _CHANNELS and interlaced in (0, 1))
            or method
            or filters
        ):
            return False
        pictures = list(_pictures(width, height, bits * _CHANNELS[colour], interlaced))
        total = sum(rows * row for rows, row in pictures)
        unpacked = zlib.decompressobj().decompress(b"".join(packed), total + 1)
    except (struct.error, zlib.error, IndexError, ValueError):
        return False
    if len(unpacked) != total:
        return False
    start = 0
    for rows, row in pictures:
        if max(unpacked[start : start + rows * row : row]) > _LAST_FILTER:
            return False
        start += rows * row
    return True


def _pictures(width: int, height: int, bits: int, interlaced: int) -> Iterator[tuple[int, int]]:
    """Rows, and bytes of a row with its filter, of each picture that makes up the file."""
    for left, top, across, down in _ADAM7 if interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            yield rows, -(-columns * bits // 8) + 1
