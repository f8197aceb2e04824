"""Crop, augmentation, mixing and sampling together: the same bytes at each place, whoever makes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from datamodules import (
    Augment,
    ClassificationDataModule,
    CropDataModule,
    Draw,
    Loader,
    LoupeDataModule,
    SegmentationDataModule,
)
from tests.fitting import write_pictures
from tests.tasks import write_task
from tests.test_training_ddp import FLAGS, assert_same_run, run

# three workers on two cores are slower, and no other
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")

Place = tuple[int, int]  # epoch, position
STRONG: dict[str, Any] = {"preset": "strong"}
TASKS: dict[str, tuple[type[LoupeDataModule], Augment, str]] = {
    "classification": (
        ClassificationDataModule,
        Augment(**STRONG, crop="random_resized", mixup=0.4, cutmix=1.0),
        "balanced",
    ),
    "segmentation": (
        SegmentationDataModule,
        Augment(**STRONG, crop="scale_jitter", foreground=0.5, cutmix=1.0),
        "uniform",
    ),
    "cropping": (
        CropDataModule,
        Augment(preset="trivialaugment", crop="random_resized", foreground=0.5),
        "balanced",
    ),
}


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Seven training pictures each: in batches of four the last is three, for two processes two and one."""
    folder = tmp_path_factory.mktemp("same")
    found = {task: write_task(task, folder / task) for task in TASKS}
    train = found["classification"] / "train"
    (train / "left/6.png").unlink()
    for name in ("2.png", "4.png"):
        (train / "left" / name).rename(train / "right" / name)  # one left, six right
    for kind in ("images", "masks"):
        (found["segmentation"] / f"train/{kind}/6.png").unlink()
    manifest = found["cropping"] / "manifest.csv"
    rows = [row for row in manifest.read_text().splitlines() if not row.startswith("train_6.png")]
    manifest.write_text("\n".join(rows))
    return found


def process(
    root: Path, task: str, *, workers: int = 0, world: int = 1, rank: int = 0, accumulate: int = 1
) -> Any:
    """The datamodule of one of `world` processes."""
    kind, augment, sampling = TASKS[task]
    loader = Loader(batch_size=4, num_workers=workers, sampling=sampling)  # type: ignore[arg-type]
    data = kind(str(root), image_size=(24, 40), augment=augment, loader=loader)
    data.setup("fit")
    data.trainer = SimpleNamespace(  # type: ignore[assignment]
        world_size=world,
        global_rank=rank,
        num_devices=world,
        accumulate_grad_batches=accumulate,
        overfit_batches=0,
        current_epoch=0,
        lightning_module=None,
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
    )
    return data


def batches(data: Any, epochs: int = 2) -> Iterator[tuple[list[Draw], dict[str, Tensor]]]:
    """The draws and the batch of each micro-batch, from one loader, whose workers live on."""
    loader = data.train_dataloader()
    for epoch in range(epochs):
        loader.sampler.set_epoch(epoch)
        yield from zip(list(loader.sampler), loader, strict=True)


def samples(data: Any, *, mixed: bool) -> dict[Place, dict[str, Tensor]]:
    """What is at each place; with `mixed` as the network gets it, else as the workers made it."""
    found: dict[Place, dict[str, Tensor]] = {}
    for draws, batch in batches(data):
        if mixed:
            batch = data.on_after_batch_transfer(batch, 0)
            assert "mix" not in batch
            if not batch["image"].is_floating_point():
                batch["image"] = batch["image"] / 255  # as MixUp elsewhere in the batch makes it
        batch.pop("ahead", None)  # of other micro-batches
        for number, draw in enumerate(draws):
            if draw.valid:
                place = (draw.epoch, draw.position)
                assert place not in found
                assert batch["index"][number] == draw.index
                found[place] = {key: value[number].clone() for key, value in batch.items()}
    return found


def assert_same(ours: dict[Place, dict[str, Tensor]], theirs: dict[Place, dict[str, Tensor]]) -> None:
    assert sorted(ours) == sorted(theirs) == [(epoch, place) for epoch in range(2) for place in range(7)]
    for place, sample in ours.items():
        assert sample.keys() == theirs[place].keys()
        for key, value in sample.items():
            other = theirs[place][key]
            assert value.dtype == other.dtype, (place, key)
            a, b = (np.ascontiguousarray(each.numpy()).tobytes() for each in (value, other))
            assert a == b, (place, key)


@pytest.mark.parametrize(
    ("task", "mixed"),
    [*((task, False) for task in TASKS), ("classification", True), ("segmentation", True)],
)
def test_workers_and_processes_make_no_difference(roots: dict[str, Path], task: str, mixed: bool) -> None:
    alone = samples(process(roots[task], task), mixed=mixed)
    for workers in (0, 1, 3):
        for world, accumulate in ((1, 1), (1, 2), (2, 1)):
            if (workers, world, accumulate) == (0, 1, 1):
                torch.rand(7)  # another random state
                np.random.seed(5)
            shared: dict[Place, dict[str, Tensor]] = {}
            for rank in range(world):
                data = process(
                    roots[task], task, workers=workers, world=world, rank=rank, accumulate=accumulate
                )
                own = samples(data, mixed=mixed)
                assert not shared.keys() & own.keys()
                shared |= own
            assert_same(alone, shared)


@pytest.mark.parametrize("task", TASKS)
def test_the_pictures_do_change(roots: dict[str, Path], task: str) -> None:
    """Else the test above would hold of a loader that changes nothing."""
    found = samples(process(roots[task], task), mixed=False)
    by_picture: dict[int, list[Tensor]] = {}
    for sample in found.values():
        by_picture.setdefault(int(sample["index"]), []).append(sample["image"])
    repeated = [pictures for pictures in by_picture.values() if len(pictures) > 1]
    assert repeated
    for pictures in repeated:
        for k, picture in enumerate(pictures):
            assert not any(torch.equal(picture, other) for other in pictures[:k])
    assert len({tuple(sample["to_original"].flatten().tolist()) for sample in found.values()}) >= 10, (
        "windows"
    )
    if "mix" in found[0, 0]:
        assert len({tuple(sample["mix"].tolist()) for sample in found.values()}) >= 6
    if TASKS[task][2] == "balanced":
        assert len(by_picture) < 7 or any(len(pictures) > 2 for pictures in by_picture.values())


@pytest.mark.parametrize("workers", [0, 3])
def test_a_resumed_run_goes_on_with_the_batch_it_would_have_had(roots: dict[str, Path], workers: int) -> None:
    whole = [batch for _, batch in batches(process(roots["classification"], "classification"))]
    data = process(roots["classification"], "classification", workers=workers)
    loader = data.train_dataloader()
    loader.sampler.resume(1, 1)  # the second epoch, less its first batch
    (last,) = loader
    for key, value in whole[-1].items():
        assert torch.equal(last[key], value), key


def test_another_seed_gives_others(roots: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    ours = samples(process(roots["segmentation"], "segmentation"), mixed=False)
    monkeypatch.setenv("PL_GLOBAL_SEED", "1")
    theirs = samples(process(roots["segmentation"], "segmentation"), mixed=False)
    assert not any(torch.equal(sample["image"], theirs[place]["image"]) for place, sample in ours.items())
    assert not any(
        torch.equal(sample["mix"], theirs[place]["mix"]) for place, sample in list(ours.items())[:6:2]
    )


@pytest.mark.slow  # test_distributed_*.py has the same by default
def test_two_processes_train_the_same_weights(tmp_path: Path) -> None:
    """All of it in a real run: nine pictures in batches of four, the last batch one picture."""
    data = write_pictures(tmp_path / "data", {"train": 9, "val": 4}, void=True)
    augment = "{preset: strong, crop: scale_jitter, foreground: 0.5, cutmix: 1.0}"
    flags = (*FLAGS, "--trainer.precision=64-true", f"--data.augment={augment}")
    run(tmp_path / "one", data, *flags, processes=1)
    run(tmp_path / "two", data, *flags, processes=2)
    assert_same_run(tmp_path / "one", tmp_path / "two", 1e-10)
