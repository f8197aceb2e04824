"""PNG files before they are decoded: whether Pillow would lose something, and whether they are whole."""

import struct
import zlib

__all__ = ["is_deep_colour", "is_intact"]

_PNG = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}  # by colour type, of those that have 16 bits


def is_deep_colour(data: bytes) -> bool:
    """Whether these bytes are a PNG of 16 bits and more than one channel, of which Pillow keeps 8."""
    return data.startswith(_PNG) and len(data) > 25 and data[24] == 16 and data[25] != 0


def is_intact(data: bytes) -> bool:
    """Whether each chunk's sum is right, and the pixels unpack to as many bytes as the header says."""
    packed: list[bytes] = []
    place = len(_PNG)
    try:
        while True:
            (length,) = struct.unpack_from(">I", data, place)
            body = data[place + 4 : place + 8 + length]
            (expected,) = struct.unpack_from(">I", data, place + 8 + length)
            if zlib.crc32(body) != expected:
                return False
            if body[:4] == b"IDAT":
                packed.append(body[4:])
            place += 12 + length
            if body[:4] == b"IEND":
                break
        width, height, bits, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
        unpacked = len(zlib.decompress(b"".join(packed)))
    except (struct.error, zlib.error):
        return False
    row = -(-width * bits * _CHANNELS.get(colour, 1) // 8)
    return unpacked == height * (row + 1) if not interlaced else unpacked >= height * row
