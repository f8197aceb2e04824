"""Reading pictures: ours, ImageFolder with Pillow, albumentations with OpenCV; and a second epoch from the cache.

    pip install -e ".[bench]"
    taskset -c 0 python benchmarks/data.py            one core, in this process
    python benchmarks/data.py --workers 1             the same through a DataLoader with one worker
    python benchmarks/data.py --rows 1000000          a manifest of that many pictures: seconds, and memory of a worker

Draws JPEGs of two sizes into a temporary folder, and makes of each an input of 224 pixels: decoded, resized with
antialiasing (OpenCV: INTER_AREA, its way of it), letterboxed, flipped by chance, as a uint8 tensor; batches of 16.
Medians; the readers take turns.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from datamodules import Augment, ClassificationDataModule, Loader

SIDE = 224
BATCH = 16
SIZES = {(500, 375): 48, (4000, 3000): 16}  # width and height, and how many pictures


def photo(width: int, height: int, file: Path, seed: int = 0) -> None:
    """Smooth blobs with some grain, about as heavy as a photo."""
    g = np.random.default_rng(seed)
    coarse = Image.fromarray(g.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(np.int16)
    grain = g.integers(-6, 7, (height, width, 1))
    Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8)).save(file, quality=90)


def draw_folder(root: Path, width: int, height: int, count: int) -> Path:
    """Two class folders, the same pictures for training and validation."""
    for part in ("train", "val"):
        for i in range(count):
            file = root / part / f"class_{i % 2}" / f"{i}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            photo(width, height, file, i)
    return root


def letterboxed(image: Image.Image) -> Image.Image:
    """Into a square, grey around."""
    return ImageOps.pad(image, (SIDE, SIDE), method=Image.Resampling.BILINEAR, color=(114, 114, 114))


def image_folder(root: Path) -> Dataset[Any]:
    """torchvision's, with Pillow."""
    steps = [v2.Lambda(letterboxed), v2.PILToTensor(), v2.RandomHorizontalFlip()]
    return ImageFolder(str(root / "train"), transform=v2.Compose(steps))


class AlbumentationsFolder(Dataset[Any]):
    """The same pictures by OpenCV and albumentations."""

    def __init__(self, root: Path) -> None:
        import albumentations as A
        import cv2
        from albumentations.pytorch import ToTensorV2

        cv2.setNumThreads(0)
        self.cv2 = cv2
        self.samples = ImageFolder(str(root / "train")).samples
        self.transform = A.Compose(
            [
                A.LongestMaxSize(SIDE, interpolation=cv2.INTER_AREA),
                A.PadIfNeeded(SIDE, SIDE, border_mode=cv2.BORDER_CONSTANT, fill=114),
                A.HorizontalFlip(),
                ToTensorV2(),
            ]
        )

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path, label = self.samples[index]
        image = self.cv2.cvtColor(self.cv2.imread(path), self.cv2.COLOR_BGR2RGB)
        return self.transform(image=image)["image"], label


def ours(root: Path, workers: int, cache: str = "none") -> DataLoader[Any]:
    """Our loader over the same pictures."""
    loader = Loader(batch_size=BATCH, num_workers=workers, cache=cache)  # type: ignore[arg-type]
    data = ClassificationDataModule(
        str(root), image_size=SIDE, augment=Augment(preset="light"), loader=loader
    )
    data.setup("fit")
    return data.train_dataloader()


def usual(dataset: Dataset[Any], workers: int) -> DataLoader[Any]:
    """Theirs, as their documentation has it."""
    return DataLoader(dataset, BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0)


def epoch_s(loader: DataLoader[Any]) -> float:
    """Seconds of one pass."""
    began = time.perf_counter()
    for _ in loader:
        pass
    return time.perf_counter() - began


def speed(workers: int, rounds: int) -> None:
    """Prints pictures a second, and ours as a multiple of each."""
    print(f"{workers} workers, pictures a second, {time.strftime('%Y-%m-%d')}")
    for (width, height), count in SIZES.items():
        with tempfile.TemporaryDirectory() as folder:
            os.environ["LOUPE_CACHE"] = f"{folder}/cache"
            root = draw_folder(Path(folder) / "data", width, height, count)
            loaders: dict[str, DataLoader[Any]] = {
                "ours": ours(root, workers),
                "ours, disk cache": ours(root, workers, "disk"),
                "ours, memory cache": ours(root, workers, "memory"),
                "ImageFolder + Pillow": usual(image_folder(root), workers),
                "albumentations + OpenCV": usual(AlbumentationsFolder(root), workers),
            }
            taken: dict[str, list[float]] = {name: [] for name in loaders}
            for i in range(rounds + 1):  # the first starts workers and fills caches
                for name, loader in loaders.items():
                    seconds = epoch_s(loader)
                    if i:
                        taken[name].append(seconds)
            rates = {name: count / statistics.median(seconds) for name, seconds in taken.items()}
            print(f"\n{width}x{height}")
            for name, rate in rates.items():
                against = "" if name.startswith("ours") and name == "ours" else f"{rates['ours'] / rate:8.2f}"
                print(f"  {name:<26}{rate:10.1f}{against:>10}")
            cached = rates["ours, disk cache"] / rates["ImageFolder + Pillow"]
            print(f"  a second epoch from the disk cache is {cached:.1f} times ImageFolder + Pillow")


def manifest(rows: int) -> None:
    """Prints how long a manifest takes to open, and what a worker adds in memory of its own."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        each = 1000
        lines: list[str] = []
        for k in range(-(-rows // each)):
            folder = root / f"{k:04d}"
            folder.mkdir()
            first = folder / "picture_000000.png"
            Image.new("RGB", (8, 8)).save(first)
            for i in range(min(each, rows - k * each)):
                file = folder / f"picture_{i:06d}.png"
                if i:
                    file.hardlink_to(first)
                lines.append(f"{k:04d}/{file.name},class_{i % 1000},{'val' if (i + k) % 7 == 0 else 'train'}")
        np.random.default_rng(0).shuffle(lines)
        (root / "split.csv").write_text("path,label,split\n" + "\n".join(lines))
        (root / "plain.csv").write_text("path,label\n" + "\n".join(line.rpartition(",")[0] for line in lines))
        for kind in ("split", "plain"):
            loader = Loader(batch_size=64, num_workers=1)
            data = ClassificationDataModule(str(root / f"{kind}.csv"), image_size=8, loader=loader)
            began = time.perf_counter()
            data.setup("fit")
            seconds = time.perf_counter() - began
            few, many = (worker_mb(data, batches) for batches in (2, 400))
            parts = "named" if kind == "split" else "drawn"
            print(
                f"{rows} rows, parts {parts}: {seconds:.2f} s; a worker has {few:.0f} MB of its own after 2 batches"
            )
            print(f"  of 64, {many:.0f} MB after 400")


def worker_mb(data: ClassificationDataModule, count: int) -> float:
    """Memory of a fresh worker's own after so many batches."""
    loader = data.train_dataloader()
    batches = iter(loader)
    for _ in range(count):
        next(batches)
    return private_mb(loader._iterator._workers[0].pid)  # type: ignore[union-attr]


def private_mb(pid: int) -> float:
    """Memory of a process that no other shares, in 10^6 bytes."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) * 1024 / 1e6


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--rows", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.rows:
        manifest(options.rows)
    else:
        speed(options.workers, options.rounds)


if __name__ == "__main__":
    main()
