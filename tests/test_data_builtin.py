"""torchvision's sets by name: read by torchvision's own code from files in their layout, with no network."""

from __future__ import annotations

import csv
import hashlib
import pickle
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image
from torchvision import datasets

from datamodules import ClassificationDataModule, CropDataModule, LabelRead, Loader, SegmentationDataModule
from datamodules.formats import BUILTIN, ensure_builtin
from errors import LoupeError
from tests.test_data_layouts import PETS, pet, voc

LABEL = ("label",)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that were asked for; none answers."""
    asked: list[str] = []

    def refuse(request: Any, *_: Any, **__: Any) -> None:
        asked.append(getattr(request, "full_url", request))
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    return asked


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LOUPE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def left_over(cache: Path) -> list[Path]:
    """Files in the cache, and folders of unfinished work."""
    return [path for path in cache.rglob("*") if path.is_file() or path.suffix == ".part"]


def rows_of(manifest: Path) -> list[dict[str, str]]:
    with manifest.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def cifar(root: Path, monkeypatch: pytest.MonkeyPatch, shift: int = 0) -> Path:
    """Batches as they are pickled there, two pictures each; their checksums take the place of the real ones."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]

    def put(name: str, content: dict[str, Any]) -> str:
        data = pickle.dumps(content, protocol=2)
        (folder / name).write_bytes(data)
        return hashlib.md5(data).hexdigest()

    def batch(name: str, number: int) -> list[str]:
        rng = np.random.default_rng(number + shift)
        data = rng.integers(0, 256, (2, 3072), dtype=np.uint8)
        return [name, put(name, {"data": data, "labels": [number % 2, 9]})]

    train = [batch(f"data_batch_{i}", i) for i in range(1, 6)]
    test = [batch("test_batch", 0)]
    meta = {**datasets.CIFAR10.meta, "md5": put("batches.meta", {"label_names": names})}
    for key, value in (("train_list", train), ("test_list", test), ("meta", meta)):
        monkeypatch.setattr(datasets.CIFAR10, key, value)
    return root


def test_pictures_in_arrays_become_files_once(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, offline: list[str]
) -> None:
    root = cifar(tmp_path / "sets", monkeypatch)
    data = ClassificationDataModule(
        str(root), dataset="CIFAR10", image_size=32, loader=Loader(batch_size=2, num_workers=0)
    )
    data.setup("test")
    assert data.class_names == ["airplane", "automobile", "truck"]
    assert [len(data.samples[part]) for part in ("train", "val", "test")] == [8, 2, 2]
    batch = next(iter(data.test_dataloader()))
    stored = np.random.default_rng(0).integers(0, 256, (2, 3, 32, 32), dtype=np.uint8)
    assert torch.equal(batch["image"], torch.from_numpy(stored))
    assert batch["label"].tolist() == [0, 2]
    (folder,) = (cache / "builtin").iterdir()
    assert len(list(folder.rglob("*.png"))) == 12
    before = (folder / "manifest.csv").stat().st_mtime_ns
    monkeypatch.setattr(datasets, "CIFAR10", lambda *_, **__: pytest.fail("read again"))
    assert ensure_builtin("CIFAR10", root, LABEL) == folder / "manifest.csv"
    assert (folder / "manifest.csv").stat().st_mtime_ns == before
    assert offline == []


@pytest.mark.parametrize(
    "places", [("a/b", "a-b"), ("x" * 50 + "/1/" + "y" * 99, "x" * 50 + "/2/" + "y" * 99)]
)
def test_another_place_is_another_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, places: tuple[str, str]
) -> None:
    found = [
        ensure_builtin("CIFAR10", cifar(tmp_path / place, monkeypatch, shift), LABEL)
        for shift, place in enumerate(places)
    ]
    first, second = [(manifest.parent / "test" / "000000.png").read_bytes() for manifest in found]
    assert first != second


def flowers(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = root / "flowers-102"
    (folder / "jpg").mkdir(parents=True)
    for i in range(1, 7):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(folder / "jpg" / f"image_{i:05d}.jpg")
    labels = np.array([1, 77, 1, 77, 1, 77])  # numbers from 1; 77 is the passion flower
    scipy.io.savemat(folder / "imagelabels.mat", {"labels": labels})
    scipy.io.savemat(folder / "setid.mat", {"trnid": [1, 2], "valid": [4, 3], "tstid": [5, 6]})
    known = dict(datasets.Flowers102._file_dict)
    for key, name in (("label", "imagelabels.mat"), ("setid", "setid.mat")):
        known[key] = (name, hashlib.md5((folder / name).read_bytes()).hexdigest())
    monkeypatch.setattr(datasets.Flowers102, "_file_dict", known)
    return root


def test_pictures_in_files_stay_where_they_are(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = flowers(tmp_path / "sets", monkeypatch)
    monkeypatch.chdir(tmp_path)
    manifest = ensure_builtin("Flowers102", Path("sets"), LABEL)
    assert left_over(cache) == [manifest]
    assert [(Path(row["path"]).name, row["label"], row["split"]) for row in rows_of(manifest)] == [
        ("image_00001.jpg", "pink primrose", "train"),
        ("image_00002.jpg", "passion flower", "train"),
        ("image_00004.jpg", "passion flower", "val"),
        ("image_00003.jpg", "pink primrose", "val"),
        ("image_00005.jpg", "pink primrose", "test"),
        ("image_00006.jpg", "passion flower", "test"),
    ]
    assert all(Path(row["path"]).parent == root / "flowers-102" / "jpg" for row in rows_of(manifest))
    monkeypatch.chdir("/")
    names = ["passion flower", "pink primrose"]
    data = ClassificationDataModule(str(root), dataset="Flowers102", read=LabelRead(class_names=names))
    data.setup("fit")
    assert data.class_counts() == [1, 1]


def test_a_list_from_matlab_stays_files(tmp_path: Path, cache: Path) -> None:
    """The numbers of Stanford Cars come from a MATLAB file."""
    root = tmp_path / "stanford_cars"
    cars = np.array([("1.jpg", 2), ("2.jpg", 1)], dtype=[("fname", object), ("class", np.uint8)])
    for part, file in (("train", "devkit/cars_train_annos.mat"), ("test", "cars_test_annos_withlabels.mat")):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        scipy.io.savemat(root / file, {"annotations": cars})
        (root / f"cars_{part}").mkdir()
        for name in cars["fname"]:
            Image.new("RGB", (8, 8)).save(root / f"cars_{part}" / name)
    scipy.io.savemat(root / "devkit/cars_meta.mat", {"class_names": np.array(["Audi", "BMW"], dtype=object)})
    manifest = ensure_builtin("StanfordCars", tmp_path, LABEL)
    assert [row["label"] for row in rows_of(manifest)] == ["BMW", "Audi"] * 2
    assert left_over(cache) == [manifest]


def test_pets_serve_every_task(tmp_path: Path, offline: list[str]) -> None:
    folder = pet(tmp_path / "oxford-iiit-pet")
    lists = folder / "annotations" / "test.txt"
    lists.write_text(lists.read_text().lstrip())  # torchvision reads no empty lines
    labels = ClassificationDataModule(str(tmp_path), dataset="OxfordIIITPet")
    labels.setup("test")
    assert labels.class_names == ["Abyssinian", "great_pyrenees"]
    assert [Path(path).stem for path in labels.test_paths] == PETS[3:]
    masks = SegmentationDataModule(str(tmp_path), dataset="OxfordIIITPet")
    masks.setup("fit")
    assert masks.class_names == ["background", "pet"]
    assert "OxfordIIITPet" in masks.describe()[0] or str(tmp_path) in masks.describe()[0]
    with pytest.raises(LoupeError, match="2 pictures are too few to split"):
        CropDataModule(str(tmp_path), dataset="OxfordIIITPet").setup("fit")  # but found both heads
    assert offline == []


def test_voc_is_found_below_its_archive(tmp_path: Path) -> None:
    one = [("dog", (2.0, 2.0, 5.0, 6.0))]
    lists = {"Main/trainval.txt": "a\nb\n", "Main/train.txt": "a\n", "Main/val.txt": "b\n"}
    voc(tmp_path / "VOCdevkit" / "VOC2012", {"a": one, "b": one, "c": one}, lists)
    data = CropDataModule(str(tmp_path), dataset="VOCDetection")
    data.setup("fit")
    assert [len(data.samples[part]) for part in ("train", "val")] == [1, 1]
    assert data.describe()[1] == "boxes: 1 train, 1 val"


@pytest.mark.parametrize("name", sorted(BUILTIN))
def test_a_set_that_is_not_there_is_one_clear_line(
    name: str, cache: Path, tmp_path: Path, offline: list[str]
) -> None:
    """Every one of them is known to torchvision, and takes the arguments that its parts are asked by."""
    root = tmp_path / "sets"
    gives = BUILTIN[name].tasks
    with pytest.raises(LoupeError) as caught:
        ensure_builtin(name, root, gives)
    message = str(caught.value)
    assert message.startswith(f"data.dataset {name}")
    assert str(root) in message
    assert "\n" not in message
    assert "unexpected keyword" not in message
    assert "Unknown value" not in message
    assert left_over(cache) == []
    assert [path for path in root.rglob("*") if path.is_file()] == []


def test_what_cannot_be(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LoupeError, match=r"unknown data\.dataset 'CIFAR11' \(did you mean 'CIFAR10'\?\)"):
        ClassificationDataModule(dataset="CIFAR11").setup("fit")
    with pytest.raises(
        LoupeError, match=r"CIFAR10 has no mask for a picture; .*: OxfordIIITPet, VOCSegmentation$"
    ):
        SegmentationDataModule(dataset="CIFAR10").setup("fit")
    with pytest.raises(
        LoupeError, match=r"VOCDetection has no label for a picture; those that have: CIFAR10"
    ):
        ClassificationDataModule(dataset="VOCDetection").setup("fit")
    assert not cache.exists()
    with pytest.raises(LoupeError, match=r"CIFAR10 is not in .*cache/torchvision, and could not be fetched"):
        ClassificationDataModule(dataset="CIFAR10").setup("fit")
    assert left_over(cache) == []
    root = cifar(tmp_path / "sets", monkeypatch)
    monkeypatch.setenv("LOUPE_CACHE", str(tmp_path / "file"))
    (tmp_path / "file").touch()
    with pytest.raises(LoupeError, match=r"CIFAR10 cannot be made into files in .*LOUPE_CACHE"):
        ensure_builtin("CIFAR10", root, LABEL)


def test_a_damaged_set_leaves_nothing_behind(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = cifar(tmp_path / "sets", monkeypatch)
    (root / "cifar-10-batches-py" / "test_batch").write_bytes(b"other")
    with pytest.raises(LoupeError, match="could not be fetched"):
        ensure_builtin("CIFAR10", root, LABEL)
    assert left_over(cache) == []
