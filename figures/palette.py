"""Colours for class numbers, the same everywhere."""

import colorsys

__all__ = ["palette"]


def palette(size: int = 256) -> list[tuple[int, int, int]]:
    """RGB colours 0..255 of the classes 0, 1, ...: black for the first, then hues far apart, white for void (255).

    >>> palette()[0], palette()[255]
    ((0, 0, 0), (255, 255, 255))
    """
    colours = [(0, 0, 0)]
    for number in range(1, size):
        # The golden ratio spreads hues evenly for any number of classes.
        hue = ((number - 1) * 0.618033988749895) % 1.0
        value = 1.0 - 0.25 * ((number - 1) // 8 % 3)
        red, green, blue = colorsys.hsv_to_rgb(hue, 0.75, value)
        colours.append((round(255 * red), round(255 * green), round(255 * blue)))
    if size == 256:
        colours[255] = (255, 255, 255)
    return colours
