"""Class folders and label manifests: what is found, which class is which, how they are split, what is refused."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from datamodules import ClassificationDataModule, LabelRead, Loader, Split
from datamodules.formats import find_labels
from datamodules.samples import Samples
from datamodules.splits import split_samples
from errors import LoupeError


def write(root: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20 + number, 16), (10 * number, 0, 0)).save(root / name)
    return root


def module(root: Path, **arguments: Any) -> ClassificationDataModule:
    loader = Loader(batch_size=4, num_workers=0)
    data = ClassificationDataModule(str(root), image_size=16, loader=loader, **arguments)
    data.setup("fit")
    return data


def many(root: Path, **counts: int) -> Path:
    return write(root, *(f"{label}/{n:03d}.png" for label, count in counts.items() for n in range(count)))


# --- layouts ------------------------------------------------------------------------------------------------------


def test_class_folders_at_any_depth(tmp_path: Path) -> None:
    found = find_labels(write(tmp_path, "cat/a.png", "cat/old/b.jpg", "dog/c.png", ".git/x.png"))
    assert dict(zip(found.names, found.columns["label"], strict=True)) == {
        "cat/a.png": "cat",
        "cat/old/b.jpg": "cat",
        "dog/c.png": "dog",
    }
    assert set(found.parts) == {""}


def test_parts_with_class_folders(tmp_path: Path) -> None:
    found = find_labels(write(tmp_path, "train/cat/a.png", "train/dog/b.png", "valid/cat/c.png"))
    assert list(zip(found.names, found.columns["label"], found.parts, strict=True)) == [
        ("train/cat/a.png", "cat", "train"),
        ("train/dog/b.png", "dog", "train"),
        ("valid/cat/c.png", "cat", "val"),
    ]


def test_a_class_may_be_called_test(tmp_path: Path) -> None:
    found = find_labels(write(tmp_path, "control/a.png", "test/b.png"))
    assert found.columns["label"] == ["control", "test"]
    assert set(found.parts) == {""}


@pytest.mark.parametrize("by_folder", [True, False])
def test_manifest(tmp_path: Path, by_folder: bool) -> None:
    write(tmp_path, "p/a.png", "p/b.png", "p/c.png")
    file = tmp_path / "manifest.csv"
    file.write_text("Path, Label ,split\np/a.png,x,train\np/b.png,y,train\np/c.png,x,val\n")
    data = module(tmp_path if by_folder else file)
    assert data.class_names == ["x", "y"]
    assert [Path(p).name for p in data.train_paths] == ["a.png", "b.png"]
    assert [Path(p).name for p in data.val_paths] == ["c.png"]


# --- classes ------------------------------------------------------------------------------------------------------


def test_labels_in_the_batch_are_the_places_of_the_names(tmp_path: Path) -> None:
    data = module(many(tmp_path, b=6, a=3, c=3), read=LabelRead(class_names=["c", "b", "a"]))
    batch = data._datasets.of_part("train")[next(iter(data.train_dataloader().sampler))]  # pyright: ignore
    names = [Path(data.train_paths[int(i)]).parent.name for i in batch["index"]]
    assert batch["label"].dtype == torch.int64
    assert [["c", "b", "a"][int(label)] for label in batch["label"]] == names


def test_numbers_are_sorted_as_numbers(tmp_path: Path) -> None:
    assert module(many(tmp_path, **{"0": 4, "2": 4, "10": 4})).class_names == ["0", "2", "10"]


def test_names_may_fix_a_class_that_has_no_picture(tmp_path: Path) -> None:
    assert module(many(tmp_path, a=4, b=4), read=LabelRead(class_names=["a", "b", "rare"])).num_classes == 3


@pytest.mark.parametrize(
    ("names", "arguments", "message"),
    [
        (["a/x.png", "y.png", "b/z.png"], {}, r"1 picture: y.png beside its class folders \(a, b\)"),
        (["x.png", "y.png"], {}, r"must hold a folder for each class .* has 2 pictures: x.png, y.png"),
        (
            ["train/a/x.png", "val/a/y.png", "cat/z.png"],
            {},
            r"train, val with class folders .*beside them cat",
        ),
        (["train/a/x.png", "training/a/y.png"], {}, r"two folders for one part: train, training"),
        (["a/x.png", "a/y.png", "a/z.png"], {}, r"all pictures have one label, 'a'"),
        (["train/a/x.png", "train/b/y.png", "val/c/z.png"], {}, r"train part has no picture of the label c"),
        (
            ["a/x.png", "bee/y.png", "a/z.png", "bee/w.png"],
            {"read": LabelRead(class_names=["a", "bees"])},
            r"labels bee, which are not in data.read.class_names \(a, bees\); did you mean bees\?",
        ),
        (
            ["a/x.png", "b/y.png", "a/z.png", "b/w.png"],
            {"read": LabelRead(class_names=["a", "a"])},
            r"must be different names",
        ),
    ],
)
def test_what_cannot_be_right_is_refused(
    tmp_path: Path, names: list[str], arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(LoupeError, match=message):
        module(write(tmp_path, *names), **arguments)


def test_an_empty_class_folder_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "a/x.png")
    (tmp_path / "b").mkdir()
    with pytest.raises(LoupeError, match=r"class folder .*b has no pictures"):
        module(tmp_path)


def test_a_manifest_without_labels_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "a.png")
    (tmp_path / "manifest.csv").write_text("path,class\na.png,x\n")
    with pytest.raises(LoupeError, match=r"lacks the column label; it has: path, class"):
        module(tmp_path)


# --- stratified splits --------------------------------------------------------------------------------------------


def test_drawn_parts_get_their_share_of_each_class(tmp_path: Path) -> None:
    data = module(many(tmp_path, common=60, rare=20, single=1), split=Split(val=0.2, test=0.1))
    counts = {part: Counter(data.samples[part].columns["label"]) for part in ("train", "val", "test")}
    assert counts["test"] == {"common": 6, "rare": 2}
    assert counts["val"] == {"common": 12, "rare": 4}
    assert counts["train"] == {"common": 42, "rare": 14, "single": 1}


@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=8),
    val=st.floats(0.05, 0.4),
    test=st.floats(0.05, 0.4),
    seed=st.integers(0, 5),
)
@settings(max_examples=200, deadline=None)
def test_stratified_parts_add_up_and_keep_one_of_each(
    sizes: list[int], val: float, test: float, seed: int
) -> None:
    labels = [f"class{k}" for k, size in enumerate(sizes) for _ in range(size)]
    names = [f"{label}/{n}" for n, label in enumerate(labels)]
    samples = Samples(names, names, {"label": labels}, [""] * len(names))
    if len(names) - len(sizes) < 2:
        return
    parts, _ = split_samples(samples, Split(val=val, test=test, seed=seed), labels)
    assert sorted(name for part in parts.values() for name in part.names) == sorted(names)
    assert set(parts["train"].columns["label"]) == set(labels)
    for part, share in (("val", val), ("test", test)):
        wanted = max(1, round(len(names) * share))
        found = Counter(parts[part].columns["label"])
        assert sum(found.values()) <= wanted
        for k, size in enumerate(sizes):
            # within one of the exact share, up to what the train part must keep
            assert found[f"class{k}"] <= max(size * wanted / len(names) + 1.5, 1)
    again, _ = split_samples(samples, Split(val=val, test=test, seed=seed), labels)
    assert again == parts


def test_a_drawn_part_stays_when_another_class_grows(tmp_path: Path) -> None:
    before = module(many(tmp_path, a=40, b=40))
    after = module(many(tmp_path, a=40, b=80))
    of_a = [[n for n in data.samples["val"].names if n.startswith("a/")] for data in (before, after)]
    assert set(of_a[0]) == set(of_a[1])


@pytest.mark.real_data
def test_trashnet_as_it_is(real_data: Path) -> None:
    found = find_labels(real_data / "trashnet")
    assert Counter(found.columns["label"]) == {
        "cardboard": 403,
        "glass": 501,
        "metal": 410,
        "paper": 594,
        "plastic": 482,
        "trash": 137,
    }
