"""Reading pictures: our reader against Pillow as torchvision's ImageFolder uses it, on one core.

    taskset -c 0 python benchmarks/data.py

Draws JPEGs of two sizes into a temporary folder, and reads each as an input of 224 pixels: decoded, resized with
antialiasing, as a uint8 tensor. Medians; the readers take turns.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from datamodules import InputReader

SIDE = 224
SIZES = {(500, 375): 60, (4000, 3000): 9}  # width and height, and how often


def photo(width: int, height: int, file: Path) -> None:
    """Smooth blobs with some grain, about as heavy as a photo."""
    g = np.random.default_rng(0)
    coarse = Image.fromarray(g.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(np.int16)
    grain = g.integers(-6, 7, (height, width, 1))
    Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8)).save(file, quality=90)


def pillow(file: Path) -> Tensor:
    """ImageFolder's loader, and its usual resize."""
    with file.open("rb") as stream:
        image = Image.open(stream).convert("RGB")
    scale = SIDE / max(image.size)
    return F.pil_to_tensor(
        image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
    )


def main() -> None:
    torch.set_num_threads(1)
    reader = InputReader({"image_size": [SIDE, SIDE], "resize": "letterbox", "in_channels": 3})
    print(f"{'':12}{'ours':>10}{'Pillow':>10}{'ratio':>8}   pictures a second, {time.strftime('%Y-%m-%d')}")
    with tempfile.TemporaryDirectory() as folder:
        for (width, height), rounds in SIZES.items():
            file = Path(folder) / f"{width}.jpg"
            photo(width, height, file)
            runs: dict[str, Callable[[Path], object]] = {"ours": reader, "Pillow": pillow}
            taken: dict[str, list[float]] = {name: [] for name in runs}
            for i in range(rounds + 1):
                for name, run in runs.items():
                    start = time.perf_counter()
                    run(file)
                    if i:
                        taken[name].append(time.perf_counter() - start)
            ours, theirs = (1 / statistics.median(taken[name]) for name in runs)
            print(f"{width}x{height:<8}{ours:10.1f}{theirs:10.1f}{ours / theirs:8.2f}")


if __name__ == "__main__":
    main()
