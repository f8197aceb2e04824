"""Decoded pictures that are kept: what comes out is what reading anew gives, whatever happened to the cache."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import (
    Augment,
    BoxRead,
    ClassificationDataModule,
    CropDataModule,
    LabelRead,
    Loader,
    LoupeDataModule,
    MaskRead,
    SegmentationDataModule,
    Split,
    images,
    input_reader,
)
from errors import LoupeError
from tests.tasks import TASKS, write_task

KINDS = {
    "segmentation": (SegmentationDataModule, MaskRead),
    "classification": (ClassificationDataModule, LabelRead),
    "cropping": (CropDataModule, BoxRead),
}
TASK = pytest.mark.parametrize("task", TASKS)
KIND = pytest.mark.parametrize("cache", ["memory", "disk"])
SIZE = (40, 24)  # letterboxed: resized, and void around the masks


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of caches, empty."""
    monkeypatch.setenv("LOUPE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "pictures"


def module(task: str, root: Path, cache: str = "none", workers: int = 0, **options: Any) -> LoupeDataModule:
    kind, read = KINDS[task]
    limit = options.pop("limit_gb", 1.0)
    limits: Any = {} if cache == "none" else {"cache_limit_gb": limit}
    loader: Any = Loader(batch_size=4, num_workers=workers, cache=cache, **limits)  # type: ignore[arg-type]
    data = kind(
        str(root),
        loader=loader,
        image_size=options.pop("image_size", SIZE),
        augment=options.pop("augment", Augment(preset="strong")),
        split=options.pop("split", Split()),
        read=read(**options),
    )
    data.setup("fit")
    return data


def batches(data: LoupeDataModule, epochs: int = 1) -> list[dict[str, torch.Tensor]]:
    """Everything that a fit would get."""
    found = []
    train, val, test = data.train_dataloader(), data.val_dataloader(), data.test_dataloader()
    for epoch in range(epochs):
        train.sampler.set_epoch(epoch)  # type: ignore[union-attr]
        for loader in (train, val, test):
            found += list(loader)
    return found


def same(one: list[dict[str, torch.Tensor]], other: list[dict[str, torch.Tensor]]) -> bool:
    return len(one) == len(other) and all(
        a.keys() == b.keys()
        and all(torch.equal(a[key], b[key]) and a[key].dtype == b[key].dtype for key in a)
        for a, b in zip(one, other, strict=True)
    )


class Decoded:
    """The files that were read, also by worker processes."""

    def __init__(self, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log = log
        real: Callable[[Any], bytes] = images.read_bytes

        def read_bytes(path: Any) -> bytes:
            with log.open("a") as file:
                file.write(f"{path}\n")
            return real(path)

        for place in (images, input_reader):
            monkeypatch.setattr(place, "read_bytes", read_bytes)

    def take(self) -> list[str]:
        """Those since the last time."""
        text = self.log.read_text() if self.log.exists() else ""
        self.log.unlink(missing_ok=True)
        return sorted(text.split())


@pytest.fixture
def decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Decoded:
    return Decoded(tmp_path / "decoded.txt", monkeypatch)


@TASK
@KIND
def test_kept_batches_are_those_of_reading_anew(
    task: str, cache: str, tmp_path: Path, decoded: Decoded
) -> None:
    root = write_task(task, tmp_path / "data")
    plain = batches(module(task, root), epochs=2)
    data = module(task, root, cache)
    decoded.take()
    kept = batches(data, epochs=2)
    assert same(kept, plain)
    files = [str(path) for path in root.rglob("*.png")]
    assert decoded.take() == sorted(files), "each file once, in the first epoch"
    later = module(task, root, cache)
    decoded.take()
    assert same(batches(later), plain[: len(plain) // 2])
    assert decoded.take() == ([] if cache == "disk" else sorted(files))


@KIND
def test_workers_share_what_they_keep(cache: str, tmp_path: Path, decoded: Decoded) -> None:
    root = write_task("segmentation", tmp_path / "data")
    plain = batches(module("segmentation", root), epochs=2)
    data = module("segmentation", root, cache, workers=2)
    decoded.take()
    assert same(batches(data, epochs=2), plain)
    assert len(decoded.take()) == 32


@KIND
def test_changed_files_are_read_anew(cache: str, tmp_path: Path, decoded: Decoded) -> None:
    root = write_task("segmentation", tmp_path / "data")
    data = module("segmentation", root, cache)
    before = batches(data)
    picture, mask = root / "train/images/1.png", root / "val/masks/2.png"
    shutil.copy(root / "train/images/2.png", picture)
    shutil.copy(root / "val/masks/1.png", mask)
    touched = root / "test/images/0.png"
    os.utime(touched, ns=(0, 10**18))
    decoded.take()
    after = batches(data)
    pairs = [
        picture,
        root / "train/masks/1.png",
        root / "val/images/2.png",
        mask,
        touched,
        root / "test/masks/0.png",
    ]
    assert decoded.take() == sorted(map(str, pairs))
    assert same(after, batches(module("segmentation", root))) and not same(after, before)


def test_a_file_that_changes_while_it_is_read_is_not_kept_as_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_task("classification", tmp_path / "data")
    changed, other = root / "train/left/0.png", root / "train/left/2.png"
    real = input_reader.read_bytes

    def read_bytes(path: Any) -> bytes:
        content = real(path)
        if Path(path) == changed and changed.read_bytes() != other.read_bytes():
            shutil.copy(other, changed)
            os.utime(changed, ns=(0, 10**18))
        return content

    data = module("classification", root, "memory")
    monkeypatch.setattr(input_reader, "read_bytes", read_bytes)
    batches(data)
    assert same(batches(data), batches(module("classification", root)))


def test_other_settings_have_caches_of_their_own(tmp_path: Path, home: Path) -> None:
    root = write_task("segmentation", tmp_path / "data")
    settings: list[dict[str, Any]] = [
        {},
        {"image_size": (40, 25)},
        {"resize": "stretch"},
        {"interpolation": "bicubic"},
        {"label_mapping": {0: 1, 1: 0}},
        {"in_channels": 1},
    ]
    for number, options in enumerate(settings, 1):
        for _ in range(2):
            kept = batches(module("segmentation", root, "disk", **options))
            assert same(kept, batches(module("segmentation", root, **options)))
        assert len(list(home.iterdir())) == number


def test_folds_share_a_cache(tmp_path: Path, decoded: Decoded) -> None:
    root = write_task("classification", tmp_path / "data")
    for path in sorted(root.glob("*/*/*.png")):
        (root / path.parent.name).mkdir(exist_ok=True)
        path.rename(root / path.parent.name / f"{path.parent.parent.name}{path.name}")
    for part in ("train", "val", "test"):
        shutil.rmtree(root / part)
    for fold in range(3):
        split = Split(num_folds=3, fold=fold)
        kept = batches(module("classification", root, "disk", split=split))
        assert len(decoded.take()) == (0 if fold else 16)
        assert same(kept, batches(module("classification", root, split=split)))
        decoded.take()


def test_outlines_that_change_are_drawn_anew(tmp_path: Path, home: Path) -> None:
    """COCO's annotations are in no file that a picture's stamp knows; those of every part count."""
    root = tmp_path / "data"
    for part in ("train", "val"):
        (root / part).mkdir(parents=True)
        for number in range(4):
            noise = np.random.default_rng(number).integers(0, 255, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(noise).save(root / part / f"{part}{number}.png")

    def annotate(part: str, side: int) -> None:
        entries = [{"id": n, "file_name": f"{part}{n}.png", "height": 16, "width": 16} for n in range(4)]
        outline = [[0, 0, side, 0, side, side, 0, side]]
        objects = [
            {"id": n, "image_id": n, "category_id": 1, "bbox": [0, 0, side, side], "segmentation": outline}
            for n in range(4)
        ]
        content = {"images": entries, "annotations": objects, "categories": [{"id": 1, "name": "thing"}]}
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"instances_{part}.json").write_text(json.dumps(content))

    annotate("train", 8)
    for side in (8, 12):
        annotate("val", side)
        kept = batches(module("segmentation", root, "disk", image_size=16))
        assert same(kept, batches(module("segmentation", root, image_size=16)))
        assert int(kept[-1]["mask"].sum()) == 4 * side * side


def test_a_crop_and_a_cache_exclude_each_other(tmp_path: Path) -> None:
    root = write_task("classification", tmp_path / "data")
    data = module("classification", root, "disk", augment=Augment(crop="random_resized"))
    with pytest.raises(
        LoupeError, match=r"data\.loader\.cache=disk keeps .*, and data\.augment\.crop random_resized"
    ):
        data.train_dataloader()


@KIND
def test_deep_pictures_are_not_kept(cache: str, tmp_path: Path, decoded: Decoded) -> None:
    root = write_task("classification", tmp_path / "data")
    for number, path in enumerate(sorted(root.rglob("*.png"))):
        deep = np.random.default_rng(number).integers(0, 65536, (9, 12), dtype=np.uint16)
        Image.fromarray(deep).save(path)
    plain = batches(module("classification", root), epochs=2)
    decoded.take()
    assert same(batches(module("classification", root, cache), epochs=2), plain)
    assert plain[0]["image"].is_floating_point() and len(decoded.take()) == 2 * 16
