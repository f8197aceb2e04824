"""JPEG files as a camera's, made from noise and shapes; imported by processes that need no torch."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

WIDTH, HEIGHT = 500, 375


def write_jpegs(root: Path, count: int, *, processes: int) -> int:
    """Class folders with as many training pictures, and a few to validate; returns the mean size in bytes."""
    names = [root / "train" / f"class_{n % 4}" / f"{n:05d}.jpg" for n in range(count)]
    names += [root / "val" / f"class_{n % 4}" / f"{n:05d}.jpg" for n in range(8)]
    for folder in {name.parent for name in names}:
        folder.mkdir(parents=True, exist_ok=True)
    if processes == 1:
        sizes = list(map(_write, names, range(len(names))))
    else:
        # not forked: such a process must not touch a device that its parent has used
        with ProcessPoolExecutor(max_workers=processes, mp_context=get_context("spawn")) as pool:
            sizes = list(pool.map(_write, names, range(len(names)), chunksize=32))
    return round(sum(sizes) / len(sizes))


def _write(path: Path, number: int) -> int:
    """One picture: smooth colours, a few shapes, and noise; about 70 KB."""
    rng = np.random.default_rng(number)
    small = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    picture = small.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    for _ in range(6 + number % 4):
        x, y, size = (int(v) for v in rng.integers(0, (WIDTH - 60, HEIGHT - 60, 60)))
        red, green, blue = (int(v) for v in rng.integers(0, 256, 3))
        draw.ellipse((x, y, x + 20 + size, y + 20 + size), fill=(red, green, blue))
    noisy = np.asarray(picture, np.int16) + rng.normal(0, 12, (HEIGHT, WIDTH, 3)).astype(np.int16)
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=88)
    return path.stat().st_size
