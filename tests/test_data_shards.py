"""Shards in WebDataset's format, local and behind an address: the same samples as from files, each once."""

from __future__ import annotations

import io
import json
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import ClassificationDataModule, CropDataModule, Loader, SegmentationDataModule
from datamodules.formats.shards import find_shards
from errors import LoupeError

COUNT = {"train": 22, "val": 6, "test": 4}


def png(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    return stream.getvalue()


def picture(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 255, (12, 16, 3), dtype=np.uint8)


def mask(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 3, (12, 16), dtype=np.uint8)


def members(number: int) -> dict[str, bytes]:
    box = (
        {"x1": 1, "y1": 2, "x2": 3 + number % 9, "y2": 10}
        if number % 5
        else dict.fromkeys(("x1", "y1", "x2", "y2"))
    )
    return {
        "png": png(picture(number)),
        "cls": f"{number % 3}\n".encode(),
        "seg.png": png(mask(number)),
        "json": json.dumps(box).encode(),
    }


def write_shard(file: Path, numbers: list[int], content: Callable[[int], dict[str, bytes]] = members) -> Path:
    with tarfile.open(file, "w") as archive:
        for number in numbers:
            for kind, data in content(number).items():
                info = tarfile.TarInfo(f"samples/{number:04d}.{kind}")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return file


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Three shards of train, and one each of val and test."""
    folder, start = tmp_path / "shards", 0
    folder.mkdir()
    for part, count in COUNT.items():
        numbers = list(range(start, start + count))
        start += count
        pieces = 3 if part == "train" else 1
        for piece in range(pieces):
            write_shard(folder / f"{part}-{piece:06d}.tar", numbers[piece::pieces])
    return folder


def numbers_of(data: Any, part: str) -> list[int]:
    return [int(name.rpartition("/")[2]) for name in data.samples[part].names]


def test_parts_come_from_the_names(shards: Path) -> None:
    data = ClassificationDataModule(str(shards), image_size=16)
    data.setup("fit")
    assert {part: len(samples) for part, samples in data.samples.items()} == COUNT
    assert data.class_names == ["0", "1", "2"]
    assert numbers_of(data, "val") == list(range(22, 28))


def test_pictures_labels_masks_and_boxes_are_those_of_the_files(shards: Path) -> None:
    for module, key in (
        (ClassificationDataModule, "label"),
        (SegmentationDataModule, "mask"),
        (CropDataModule, "box"),
    ):
        data = module(str(shards), image_size=(12, 16), loader=Loader(batch_size=2, num_workers=0))
        data.setup("fit")
        (batch, *_) = list(data.val_dataloader())
        for place, number in enumerate(numbers_of(data, "val")[:2]):
            assert np.array_equal(batch["image"][place].permute(1, 2, 0).numpy(), picture(number))
            if key == "label":
                assert int(batch["label"][place]) == number % 3
            elif key == "mask":
                assert np.array_equal(batch["mask"][place].numpy(), mask(number))
            else:
                assert bool(batch["has_box"][place]) == bool(number % 5)
                if number % 5:
                    right = (3 + number % 9) / 16
                    assert batch["box"][place].tolist() == pytest.approx([1 / 16, 2 / 12, right, 10 / 12])


def test_each_sample_once_an_epoch_over_two_processes_with_two_workers(shards: Path) -> None:
    for epoch in (0, 1):
        seen: Counter[int] = Counter()
        for rank in (0, 1):
            data = ClassificationDataModule(
                str(shards), image_size=16, loader=Loader(batch_size=4, num_workers=2)
            )
            data.setup("fit")
            data.trainer = SimpleNamespace(  # type: ignore[assignment]
                world_size=2, global_rank=rank, num_devices=1, accumulate_grad_batches=1, current_epoch=epoch,
                lightning_module=None, strategy=SimpleNamespace(root_device=torch.device("cpu")),
            )  # fmt: skip
            loader = data.train_dataloader()
            loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
            for batch in loader:
                seen.update(batch["index"][batch["valid"]].tolist())
        assert seen == Counter(range(22))


def test_behind_an_address(shards: Path, tmp_path: Path) -> None:
    files = fsspec.filesystem("memory")
    lines = []
    for file in sorted(shards.glob("*.tar")):
        files.pipe(f"/bucket/{file.name}", file.read_bytes())
        lines.append(f"memory://bucket/{file.name}")
    listed = tmp_path / "shards.txt"
    listed.write_text("\n".join(lines) + "\n")
    here, there = (
        SegmentationDataModule(str(root), image_size=(12, 16), loader=Loader(batch_size=6, num_workers=0))
        for root in (shards, listed)
    )
    for data in (here, there):
        data.setup("fit")
    assert here.samples["train"].names == there.samples["train"].names
    for one, other in zip(here.val_dataloader(), there.val_dataloader(), strict=True):
        assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("cache", ["disk", "memory"])
def test_a_cache_gives_the_same(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Any
) -> None:
    monkeypatch.setenv("LOUPE_CACHE", str(tmp_path / "cache"))
    loader = Loader(batch_size=6, num_workers=0, cache=cache)
    data = SegmentationDataModule(str(shards), image_size=(12, 16), loader=loader)
    data.setup("fit")
    first, second = (list(data.val_dataloader()) for _ in range(2))
    assert all(torch.equal(a[key], b[key]) for a, b in zip(first, second, strict=True) for key in a)
    assert np.array_equal(second[0]["image"][0].permute(1, 2, 0).numpy(), picture(22))


def test_a_changed_shard_is_looked_through_again(tmp_path: Path) -> None:
    file = write_shard(tmp_path / "train-0.tar", [0, 1, 2])
    assert len(find_shards(tmp_path)) == 1
    data = ClassificationDataModule(str(tmp_path), image_size=16)
    samples = data.find_samples(tmp_path)
    assert len(samples) == 3
    write_shard(file, [0, 1, 2, 3])
    assert len(data.find_samples(tmp_path)) == 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda n: {"cls": b"1"}, r"train-0.tar: the sample samples/0000 has no path; it has label"),
        (lambda n: {"png": png(picture(n))}, r"the sample samples/0000 has no label; it has path"),
        (lambda n: {"json": b"[1]", "png": png(picture(n))}, r"samples/0000.json is no object"),
    ],
)
def test_what_a_sample_lacks_is_named(
    tmp_path: Path, content: Callable[[int], dict[str, bytes]], message: str
) -> None:
    write_shard(tmp_path / "train-0.tar", [0, 1], content)
    with pytest.raises(LoupeError, match=message):
        ClassificationDataModule(str(tmp_path)).setup("fit")


def test_what_is_no_shard_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"no tar at all" * 100)
    with pytest.raises(LoupeError, match=r"a.tar cannot be read as a tar file"):
        ClassificationDataModule(str(tmp_path)).setup("fit")
    (tmp_path / "list.txt").write_text("b.tar\n")
    with pytest.raises(LoupeError, match=r"the shard .*b.tar cannot be opened"):
        ClassificationDataModule(str(tmp_path / "list.txt")).setup("fit")


def test_a_truncated_shard_names_the_member(tmp_path: Path) -> None:
    file = write_shard(tmp_path / "train-0.tar", list(range(12)))
    data = ClassificationDataModule(str(tmp_path), image_size=16, loader=Loader(batch_size=12, num_workers=0))
    data.setup("fit")
    file.write_bytes(file.read_bytes()[:600])
    with pytest.raises(LoupeError, match=r"train-0.tar!.*ends within samples/"):
        list(data.train_dataloader())


def test_an_archive_beside_what_was_unpacked_from_it_is_no_shard(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        for i in range(10):
            (tmp_path / name).mkdir(exist_ok=True)
            Image.fromarray(picture(i)).save(tmp_path / name / f"{i}.png")
    (tmp_path / "pets.tar").write_bytes(b"whatever")
    data = ClassificationDataModule(str(tmp_path), image_size=16)
    data.setup("fit")
    assert data.class_names == ["cat", "dog"]


def test_shards_in_folders_of_parts(shards: Path, tmp_path: Path) -> None:
    for file in shards.glob("*.tar"):
        part, _, number = file.name.partition("-")
        (tmp_path / "parts" / part).mkdir(parents=True, exist_ok=True)
        file.rename(tmp_path / "parts" / part / number)
    data = ClassificationDataModule(str(tmp_path / "parts"), image_size=16)
    data.setup("fit")
    assert {part: len(samples) for part, samples in data.samples.items()} == COUNT
