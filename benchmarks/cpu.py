"""What a CPU gains from channels-last and bfloat16, what threads and workers do to each other, and a plain recipe.

    python benchmarks/cpu.py [--parts arithmetic,cores,recipe] [--models NAME,NAME] [--rounds 3]

``arithmetic``: a training step of each seed model, and its answer alone, one thread, contiguous in float32, and
channels-last in float32 and in bfloat16. ``cores``: images a second of `fit` from JPEG files, for threads and workers
that fill the cores, that leave some, and that are too many. ``recipe``: the same files, network and size through
torchvision's reference recipe for classification, written out (ImageFolder, RandomResizedCrop and flip on Pillow's
pictures, SGD, the loss read in each step), beside `fit` with the same augmentation and optimizer.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from torch.nn import functional as F  # noqa: E402
from torchvision import datasets, transforms  # noqa: E402

from benchmarks.device.jpegs import write_jpegs  # noqa: E402
from benchmarks.timing import arguments, in_turn, keep, ratios  # noqa: E402
from models import create_model  # noqa: E402

#: Name, kind, size in pixels, batch.
MODELS = (
    ("cls_mobilenetv3", 224, 16),
    ("cls_efficientnetb0", 224, 8),
    ("cls_resnet50v2", 224, 4),
    ("seg_unet", 128, 2),
    ("seg_resnet50_unet", 128, 4),
)
CLASSES = 4
#: Threads and workers, for two cores.
CORES = ((1, 0), (1, 1), (2, 0), (2, 1))
BATCH, BATCHES = 16, 24


def arithmetic(rounds: int, names: list[str]) -> tuple[dict[str, float], dict[str, Any]]:
    """Ratios of speeds to contiguous float32, and milliseconds."""
    torch.set_num_threads(1)
    figures: dict[str, float] = {}
    about: dict[str, Any] = {}
    for name, size, batch in (model for model in MODELS if model[0] in names):
        ways = {
            f"{what} {way}": _Way(name, size, batch, channels_last=last, half=half, trains=what == "train")
            for what in ("train", "answer")
            for way, last, half in (("plain", False, False), ("last", True, False), ("last bf16", True, True))
        }
        for way in ways.values():
            way()
        found = in_turn(ways, rounds)
        about[name] = {way: round(1000 * statistics.median(values), 1) for way, values in found.items()}
        for what in ("train", "answer"):
            for way in ("last", "last bf16"):
                gain = ratios(found, f"{what} plain", f"{what} {way}")["median"]
                figures[f"{name} {what} {way}_speed"] = gain
        print(f"{name} {size} px, {batch}: {about[name]}", flush=True)
    return figures, about


class _Way:
    """One step of a network from the same weights; called, it gives its seconds."""

    def __init__(
        self, name: str, size: int, batch: int, *, channels_last: bool, half: bool, trains: bool
    ) -> None:
        torch.manual_seed(0)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self.network = create_model(name, num_classes=CLASSES).to(memory_format=layout).train(trains)
        self.image = torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8).to(memory_format=layout)
        shape = (batch,) if name.startswith("cls") else (batch, size, size)
        self.target = torch.randint(0, CLASSES, shape)
        self.half, self.trains = half, trains

    def __call__(self) -> float:
        began = time.perf_counter()
        with torch.set_grad_enabled(self.trains), torch.autocast("cpu", torch.bfloat16, enabled=self.half):
            logits = self.network(self.image)
        if self.trains:
            F.cross_entropy(logits.float(), self.target).backward()
            self.network.zero_grad()
        return time.perf_counter() - began


def cores(root: Path, rounds: int) -> tuple[dict[str, float], dict[str, Any]]:
    """`fit` with some threads and workers; each is a process of its own."""
    calls = {f"{t} threads, {w} workers": _process("fit", root, str(t), str(w)) for t, w in CORES}
    calls["as Loupe chooses"] = _process("fit", root, "", "auto")
    found = in_turn(calls, rounds)
    speeds = {name: round(statistics.median(values), 1) for name, values in found.items()}
    print(f"fit, cls_mobilenetv3 224 px from JPEG files, images/s: {speeds}", flush=True)
    best = max(statistics.median(values) for name, values in found.items() if name != "as Loupe chooses")
    return {"chosen cores_speed": speeds["as Loupe chooses"] / best}, speeds


def recipe(root: Path, rounds: int) -> tuple[dict[str, float], dict[str, Any]]:
    """The plain recipe beside Loupe as it is; with its own 16 workers all would be read before the clock runs."""
    calls = {
        "fit": _process("fit", root, "", "auto"),
        "recipe, no worker": _process("recipe", root, "", "0"),
        "recipe, 1 worker": _process("recipe", root, "", "1"),
    }
    found = in_turn(calls, rounds)
    speeds = {name: round(statistics.median(values), 1) for name, values in found.items()}
    print(f"torchvision's recipe, images/s: {speeds}", flush=True)
    others = (ratios(found, "fit", name)["median"] for name in found if name != "fit")
    return {"fit over recipe_speed": min(others)}, speeds


def _process(way: str, root: Path, threads: str, workers: str) -> Any:
    """A call that gives the images a second of a process."""
    words = [sys.executable, str(Path(__file__)), "--way", way, str(root), workers]

    def run() -> float:
        environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
        if threads:
            environment["OMP_NUM_THREADS"] = threads
        done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
        if done.returncode:
            raise SystemExit(done.stdout + done.stderr)
        return float(done.stdout.split()[-1])

    return run


def fit_speed(root: Path, workers: str) -> float:
    """Images a second of the second epoch, from its first batch to its last."""
    from benchmarks.device.clock import Epoch
    from benchmarks.timing import command

    clock = Epoch(BATCH)
    flags = [
        f"--config={ROOT / 'configs' / 'cls_mobilenetv3.yaml'}",
        f"--data.root={root}",
        f"--data.loader.num_workers={workers}",
        "--model.weights=null",
        "--training.epochs=2",
        f"--training.batch_size={BATCH}",
        "--training.optimizer={type: sgd, momentum: 0.9, weight_decay: 1.0e-4}",
        "--training.monitor=train/loss",
        "--trainer.accelerator=cpu",
        "--trainer.limit_val_batches=0",
    ]
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        command(["fit", *flags], clock)
    return clock.images_per_s


def recipe_speed(root: Path, workers: int) -> float:
    """The second epoch of a loop as torchvision's references/classification has it."""
    preset = transforms.Compose(
        [
            transforms.RandomResizedCrop(224),
            transforms.RandomHorizontalFlip(),
            transforms.PILToTensor(),
            transforms.ConvertImageDtype(torch.float),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    data = datasets.ImageFolder(root / "train", preset)
    loader = torch.utils.data.DataLoader(data, BATCH, shuffle=True, num_workers=workers)
    network = _plain_network()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    began = 0.0
    for epoch in range(2):
        for number, (image, target) in enumerate(loader):
            output = network(image)
            loss = F.cross_entropy(output, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()
            (output.argmax(1) == target).float().mean().item()
            if epoch and not number:
                began = time.perf_counter()
    return BATCH * (BATCHES - 1) / (time.perf_counter() - began)


def _plain_network() -> torch.nn.Module:
    import timm

    return timm.create_model("mobilenetv3_small_100", num_classes=CLASSES)


def run(given: argparse.Namespace) -> None:
    figures: dict[str, float] = {}
    about: dict[str, Any] = {"rounds": given.rounds}
    with tempfile.TemporaryDirectory() as folder:
        write_jpegs(Path(folder), BATCH * BATCHES, processes=1)
        parts = {
            "arithmetic": lambda: arithmetic(given.rounds, given.models.split(",")),
            "cores": lambda: cores(Path(folder), given.rounds),
            "recipe": lambda: recipe(Path(folder), given.rounds),
        }
        for name in given.parts.split(","):
            found, about[name] = parts[name]()
            figures |= found
    print({name: round(value, 2) for name, value in figures.items()})
    keep("cpu", figures, about=about, folder=given.out)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--way"]:
        way, root, workers = sys.argv[2:]
        print(fit_speed(Path(root), workers) if way == "fit" else recipe_speed(Path(root), int(workers)))
    else:
        run(
            arguments(
                __doc__,
                parts="arithmetic,cores,recipe",
                models=",".join(model[0] for model in MODELS),
                rounds=3,
            )[0]
        )
