"""Data sets of any size for benchmarks/scale.py: few pictures, and as many names for them as are asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

__all__ = ["class_folders", "manifest", "mask_folders", "photo"]

_LINKS = 20_000  # names of one file; ext4 allows 65,000


def photo(width: int, height: int, file: Path, seed: int = 0) -> None:
    """Smooth blobs with some grain, about as heavy as a photo."""
    g = np.random.default_rng(seed)
    coarse = g.integers(0, 256, (max(1, height // 16), max(1, width // 16), 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    grain = g.integers(-6, 7, (height, width, 1))
    Image.fromarray(np.clip(smooth.astype(np.int16) + grain, 0, 255).astype(np.uint8)).save(file, quality=90)


def _link(files: Iterator[Path], original: Path) -> None:
    """Give a file all these names; a copy of it every so many of them."""
    content = original.read_bytes()
    source = original
    for number, file in enumerate(files):
        if number % _LINKS == 0:
            source = original.with_name(f"{original.stem}_{number}{original.suffix}")
            source.write_bytes(content)
        os.link(source, file)


def class_folders(root: Path, count: int, *, classes: int = 100) -> Path:
    """So many names of one JPEG, as many in each class folder."""
    root.mkdir(parents=True)
    photo(32, 32, root / "original.jpg")
    data = root / "data"
    folders = [data / f"class_{number:03d}" for number in range(classes)]
    for folder in folders:
        folder.mkdir(parents=True)
    # folder by folder, which the file system likes better
    each = count // classes
    _link(
        (folder / f"picture_{number:07d}.jpg" for folder in folders for number in range(each)),
        root / "original.jpg",
    )
    return data


def manifest(folders: Path) -> Path:
    """A CSV with the columns path and label of what `class_folders` made, beside it, in the order of the names."""
    file = folders.with_suffix(".csv")
    with file.open("w", encoding="utf-8") as stream:
        stream.write("path,label\n")
        for folder in sorted(folders.iterdir()):
            inside = f"{folders.name}/{folder.name}"
            stream.writelines(f"{inside}/{name},{folder.name}\n" for name in sorted(os.listdir(folder)))  # noqa: PTH208
    return file


def mask_folders(root: Path, count: int, *, side: int = 32, classes: int = 2, parts: bool = False) -> Path:
    """Pairs of a JPEG and a mask that holds all the classes, in `images/` and `masks/`.

    Args:
        root: where to; must not exist.
        count: pairs, in each part.
        side: of pictures and masks, px.
        classes: values 0 to classes - 1, in stripes.
        parts: `train/` and `val/` in place of one folder.
    """
    root.mkdir(parents=True)
    photo(side, side, root / "original.jpg")
    stripes = np.arange(side * side).reshape(side, side) % classes
    Image.fromarray(stripes.astype(np.uint8)).save(root / "original.png")
    data = root / "data"
    for part in ("train", "val") if parts else (".",):
        for kind, suffix in (("images", ".jpg"), ("masks", ".png")):
            folder = data / part / kind
            folder.mkdir(parents=True)
            original = root / f"{part.strip('.')}original{suffix}"
            original.write_bytes((root / f"original{suffix}").read_bytes())
            _link((folder / f"picture_{number:07d}{suffix}" for number in range(count)), original)
    return data
