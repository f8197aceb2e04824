"""One demo picture: a shape with the surface of its kind, among noise, blobs and strokes; or only those."""

import math
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

__all__ = ["SHAPES", "draw_sample"]

SHAPES: tuple[str, ...] = ("circle", "triangle", "square", "star")

_FINE = 4  # shapes are drawn this many times larger and averaged down, for smooth edges
_Array = np.ndarray


def draw_sample(rng: np.random.Generator, kind: int | None, size: int) -> tuple[_Array, _Array]:
    """An RGB picture (size, size, 3) uint8 and its mask (size, size) uint8: 1 where the shape is seen, else 0.

    Place, size, rotation, colours, textures and clutter are drawn from `rng`; the same state gives the same picture.
    `kind` is a place in `SHAPES`; None draws no shape. A kind is told by its outline and, like most things, by its
    surface: circles are striped, triangles chequered, squares plain, stars dotted.
    """
    low, high = _two_colours(rng)
    picture = _textured(rng, low, size, spread=30)
    picture = _blobs(rng, picture, size)
    picture = _strokes(rng, picture, size, count=int(rng.integers(3, 7)))

    cover = np.zeros((size, size), np.float32)
    if kind is not None:
        cover = _shape_cover(rng, kind, size)
        body = _textured(rng, high, size, spread=16) + _pattern(rng, kind, size)[..., None]
        picture += cover[..., None] * (body - picture)

    over = _stroke_cover(rng, size, width=1.6) if rng.random() < 0.25 else np.zeros((size, size), np.float32)
    picture += over[..., None] * (_any_colour(rng) - picture)
    picture += rng.standard_normal(picture.shape, np.float32) * rng.uniform(3, 9)
    mask = ((cover >= 0.5) & (over < 0.5)).astype(np.uint8)
    return np.clip(picture.round(), 0, 255).astype(np.uint8), mask


@lru_cache(maxsize=2)
def _grid(size: int) -> tuple[_Array, _Array]:
    """Row and column of each pixel, float32 as all that follows: half the bytes, twice the speed."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    return y, x


def _two_colours(rng: np.random.Generator) -> tuple[_Array, _Array]:
    """Two colours 0..255 at least 110 apart, either the brighter."""
    while True:
        first, second = rng.uniform(30, 225, (2, 3)).astype(np.float32)
        if np.linalg.norm(first - second) >= 110:
            return first, second


def _any_colour(rng: np.random.Generator) -> _Array:
    return rng.uniform(0, 255, 3).astype(np.float32)


def _noise(rng: np.random.Generator, size: int, cells: int, channels: int) -> _Array:
    """Smooth noise in -1..1, shape (size, size, channels): random values on a coarse grid, interpolated."""
    grid = rng.uniform(-1, 1, (channels, cells, cells)).astype(np.float32)
    planes = [
        np.asarray(Image.fromarray(plane).resize((size, size), Image.Resampling.BICUBIC)) for plane in grid
    ]
    return np.stack(planes, axis=-1)


def _textured(rng: np.random.Generator, colour: _Array, size: int, *, spread: float) -> _Array:
    """A colour with a gradient and two octaves of noise, shape (size, size, 3)."""
    y, x = _grid(size)
    angle = rng.uniform(0, 2 * math.pi)
    slope = (rng.uniform(-1, 1, 3) * 2 * spread).astype(np.float32)
    gradient = ((math.cos(angle) * x + math.sin(angle) * y) / size)[..., None] * slope
    coarse = _noise(rng, size, 4, 3) * spread
    fine = _noise(rng, size, int(rng.integers(16, 33)), 1) * (spread * 0.6)
    return colour + gradient + coarse + fine


def _pattern(rng: np.random.Generator, kind: int, size: int) -> _Array:
    """The surface of a kind as brightness around 0, at most 75 either way, shape (size, size)."""
    y, x = _grid(size)
    angle, period = rng.uniform(0, math.pi), rng.uniform(7, 13)
    u = np.sin((math.cos(angle) * x + math.sin(angle) * y) * 2 * math.pi / period)
    v = np.sin((math.cos(angle) * y - math.sin(angle) * x) * 2 * math.pi / period)
    strength = float(rng.uniform(18, 30))
    match SHAPES[kind]:
        case "circle":
            return u * strength
        case "triangle":
            return np.sign(u * v) * strength
        case "square":
            return np.zeros((size, size), np.float32)
        case "star":
            return (np.maximum(u, 0) * np.maximum(v, 0) * 2.5 - 0.3) * strength
        case name:
            raise AssertionError(name)


def _blobs(rng: np.random.Generator, picture: _Array, size: int) -> _Array:
    """Soft spots of other colours: as bright as shapes, without an edge."""
    y, x = _grid(size)
    for _ in range(int(rng.integers(2, 5))):
        cy, cx = rng.uniform(0, size, 2).tolist()
        sy, sx = (rng.uniform(0.06, 0.16, 2) * size).tolist()
        # a product of two curves, not a curve of a plane: 2 * size exponentials in place of size * size
        column, row = np.exp(-(((y[:, :1] - cy) / sy) ** 2)), np.exp(-(((x[:1] - cx) / sx) ** 2))
        cover = column * row * rng.uniform(0.4, 0.8)
        picture = picture + cover[..., None] * (_any_colour(rng) - picture)
    return picture


def _strokes(rng: np.random.Generator, picture: _Array, size: int, *, count: int) -> _Array:
    for _ in range(count):
        cover = _stroke_cover(rng, size, width=rng.uniform(1.0, 2.5)) * rng.uniform(0.6, 1.0)
        picture = picture + cover[..., None] * (_any_colour(rng) - picture)
    return picture


def _stroke_cover(rng: np.random.Generator, size: int, *, width: float) -> _Array:
    """A line or an arc as coverage 0..1, shape (size, size)."""
    fine = size * 2
    canvas = Image.new("L", (fine, fine))
    draw = ImageDraw.Draw(canvas)
    thick = max(1, round(width * 2))
    if rng.random() < 0.5:
        draw.line([tuple(rng.uniform(0, fine, 2)), tuple(rng.uniform(0, fine, 2))], fill=255, width=thick)
    else:
        (cx, cy), radius, start = rng.uniform(0, fine, 2), rng.uniform(0.2, 0.6) * fine, rng.uniform(0, 360)
        box = (cx - radius, cy - radius, cx + radius, cy + radius)
        draw.arc(box, start, start + rng.uniform(40, 120), fill=255, width=thick)
    return np.asarray(canvas.reduce(2), dtype=np.float32) / 255


def _shape_cover(rng: np.random.Generator, kind: int, size: int) -> _Array:
    """The shape as coverage 0..1, shape (size, size), wholly inside the picture."""
    radius = rng.uniform(0.2, 0.36) * size
    corners = _corners(rng, kind) * radius
    low, high = 2 - corners.min(axis=0), size - 2 - corners.max(axis=0)
    corners = (corners + rng.uniform(low, high)) * _FINE
    canvas = Image.new("L", (size * _FINE, size * _FINE))
    ImageDraw.Draw(canvas).polygon([(float(x), float(y)) for x, y in corners], fill=255)
    return np.asarray(canvas.reduce(_FINE), dtype=np.float32) / 255


def _corners(rng: np.random.Generator, kind: int) -> _Array:
    """Corner points (N, 2) of the shape in a circle of radius 1, rotated."""
    match SHAPES[kind]:
        case "circle":
            turn = np.linspace(0, 2 * math.pi, 72, endpoint=False)
            points = np.stack([np.cos(turn), np.sin(turn) * rng.uniform(0.85, 1.0)], axis=1) * 0.85
        case "triangle":
            turn = np.array([0.0, 1.0, 2.0]) * 2 * math.pi / 3 + rng.uniform(-0.15, 0.15, 3)
            points = np.stack([np.cos(turn), np.sin(turn)], axis=1)
        case "square":
            half = rng.uniform(0.75, 1.0)
            points = np.array([[-1, -half], [1, -half], [1, half], [-1, half]]) * 0.75
        case "star":
            turn = np.arange(10) * math.pi / 5
            reach = np.where(np.arange(10) % 2 == 0, 1.1, rng.uniform(0.42, 0.5))
            points = np.stack([np.cos(turn), np.sin(turn)], axis=1) * reach[:, None]
        case name:
            raise AssertionError(name)
    angle = rng.uniform(0, 2 * math.pi)
    spin = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return points @ spin.T
