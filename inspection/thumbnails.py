"""Pictures and masks as small JPEGs inside a page."""

import base64
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from datamodules import read_for_display, read_mask
from errors import LoupeError
from inspection.finding import Example

__all__ = ["data_uri"]

_SIDE = 200  # pixels, of the longer side
_RED = (224, 49, 49)


def data_uri(example: Example, read: Mapping[str, Any]) -> str | None:
    """The file as a `data:` address; None where it cannot be read.

    A box is drawn, also where it reaches beyond the picture. The values of a mask are spread for the eye.
    """
    try:
        pixels = read_for_display(example.file, read["in_channels"], read["value_range"])
    except (LoupeError, OSError):
        return None
    if pixels.max() < 64:
        pixels = _stretched(example.file, pixels)
    image = Image.fromarray(pixels)
    if example.box is not None:
        image = _with_box(image, example.box)
    image.thumbnail((_SIDE, _SIDE))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _stretched(file: str, pixels: np.ndarray) -> np.ndarray:
    try:
        values = read_mask(file).numpy()
    except LoupeError:
        return pixels
    grey = (values.astype(np.float32) * (255 / max(1, int(values.max())))).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def _with_box(image: Image.Image, box: tuple[float, float, float, float]) -> Image.Image:
    """The picture with the box around it or beyond it, on grey."""
    left, right = sorted((box[0], box[2]))
    top, bottom = sorted((box[1], box[3]))
    # a box far outside would leave nothing to see of the picture
    left, top = max(left, -image.width), max(top, -image.height)
    right, bottom = min(right, 2 * image.width), min(bottom, 2 * image.height)
    pad_x, pad_y = max(0, int(-left) + 1) if left < 0 else 0, max(0, int(-top) + 1) if top < 0 else 0
    width = max(image.width, int(right) + 1) + pad_x
    height = max(image.height, int(bottom) + 1) + pad_y
    canvas = Image.new("RGB", (width, height), (200, 200, 200))
    canvas.paste(image, (pad_x, pad_y))
    draw = ImageDraw.Draw(canvas)
    thick = max(2, max(width, height) // 100)
    draw.rectangle((left + pad_x, top + pad_y, right + pad_x, bottom + pad_y), outline=_RED, width=thick)
    return canvas
