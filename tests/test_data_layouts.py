"""Layouts that others made: Pascal VOC and Oxford-IIIT Pet as they are on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import (
    BoxRead,
    ClassificationDataModule,
    CropDataModule,
    LabelRead,
    Loader,
    MaskRead,
    SegmentationDataModule,
)
from datamodules.base import LoupeDataModule
from datamodules.formats import box_of, find_boxes, find_labels, find_masks
from datamodules.formats.voc import VOC_CLASSES
from datamodules.problems import Problems
from errors import LoupeError

W, H = 10, 8
ONE = Loader(batch_size=1, num_workers=0)
Objects = list[tuple[str, tuple[float, float, float, float]]]


def batch_of(data: LoupeDataModule) -> dict[str, torch.Tensor]:
    data.setup("fit")
    return next(iter(data.val_dataloader()))


def xml_of(objects: Objects) -> str:
    """As VOC2012 writes it, with a part of a body, whose box is no object's."""
    inside = ""
    for name, (x1, y1, x2, y2) in objects:
        inside += (
            f"<object><name>{name}</name><difficult>0</difficult><bndbox><xmax>{x2}</xmax><xmin>{x1}</xmin>"
            f"<ymax>{y2}</ymax><ymin>{y1}</ymin></bndbox><part><name>head</name><bndbox><xmin>1</xmin>"
            f"<ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part></object>"
        )
    return f"<annotation><filename>a.jpg</filename>{inside}</annotation>"


def voc(root: Path, pictures: dict[str, Objects], lists: dict[str, str] | None = None) -> Path:
    for name, objects in pictures.items():
        save(root / "JPEGImages" / f"{name}.jpg")
        (root / "Annotations").mkdir(exist_ok=True)
        (root / "Annotations" / f"{name}.xml").write_text(xml_of(objects))
    for name, text in (lists or {}).items():
        (root / "ImageSets" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "ImageSets" / name).write_text(text)
    return root


def save(path: Path, values: np.ndarray | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    (Image.new("RGB", (W, H)) if values is None else Image.fromarray(values)).save(path)


def boxes(root: Path, **read: Any) -> dict[str, Any]:
    found = find_boxes(root, BoxRead(**read))
    return {name: box_of(found, row) for row, name in enumerate(found.names)}


# --- Pascal VOC ---------------------------------------------------------------------------------------------------


def test_voc_boxes_count_from_one_and_end_inside(tmp_path: Path) -> None:
    """The whole of a picture of 10x8 is 1, 1, 10, 8 there, and 0, 0, 10, 8 here."""
    root = voc(tmp_path, {"a": [("dog", (1, 1, 10, 8))], "b": [("cat", (3, 2, 3, 5))], "c": []})
    assert boxes(root) == {
        "JPEGImages/a.jpg": (0, 0, 10, 8),
        "JPEGImages/b.jpg": (2, 1, 3, 5),  # a pixel wide
        "JPEGImages/c.jpg": None,
    }


def test_files_that_count_from_zero_show_it_at_the_border(tmp_path: Path) -> None:
    root = voc(tmp_path, {"a": [("dog", (0, 2, 10, 8))], "b": [("cat", (3, 2, 7, 5))]})
    expected = {"JPEGImages/a.jpg": (0, 2, 10, 8), "JPEGImages/b.jpg": (3, 2, 7, 5)}
    assert boxes(root) == expected
    # ... for every class, also where only one is looked for
    assert boxes(root, category="cat") == {**expected, "JPEGImages/a.jpg": None}


def test_voc_largest_box_of_the_category(tmp_path: Path) -> None:
    objects: Objects = [("cat", (1, 1, 2, 2)), ("dog", (1, 1, 9, 8)), ("cat", (4, 3, 6.5, 6))]
    root = voc(tmp_path, {"a": objects, "b": [("dog", (2, 2, 3, 3))]})
    assert boxes(root)["JPEGImages/a.jpg"] == (0, 0, 9, 8)
    cats = boxes(root, category="cat")
    assert cats == {"JPEGImages/a.jpg": (3, 2, 6.5, 6), "JPEGImages/b.jpg": None}
    with pytest.raises(LoupeError, match=r"data\.read\.category is 'cow'; the objects are cat, dog"):
        boxes(root, category="cow")


def test_voc_lists_name_the_parts_and_what_is_read(tmp_path: Path) -> None:
    lists = {"Main/train.txt": "a\nb  1\n\n", "Main/val.txt": "c\n", "Main/dog_train.txt": "d\n"}
    one: Objects = [("dog", (2, 2, 5, 6))]
    root = voc(tmp_path / "VOCdevkit" / "VOC2012", dict.fromkeys("abcd", one), lists)
    data = CropDataModule(
        str(tmp_path), image_size=(H, W), read=BoxRead(resize="stretch", category="dog"), loader=ONE
    )
    batch = batch_of(data)
    names = {part: [Path(name).stem for name in inside.names] for part, inside in data.samples.items()}
    assert names == {"train": ["a", "b"], "val": ["c"], "test": []}
    assert batch["box"][0].tolist() == pytest.approx([1 / W, 1 / H, 5 / W, 6 / H])
    (root / "ImageSets/Main/val.txt").write_text("c\nb\n")
    with pytest.raises(LoupeError, match=r"Main has b in train\.txt and in val\.txt"):
        boxes(tmp_path)
    (root / "ImageSets/Main/val.txt").write_text("c\ne\n")
    with pytest.raises(
        LoupeError, match=r"VOC2012: e listed in ImageSets/Main, without a picture in JPEGImages"
    ):
        boxes(root)
    problems = Problems(collecting=True)
    assert len(find_boxes(root, problems=problems)) == 3
    assert [problem.kind for problem in problems.found] == ["missing file"]
    voc(tmp_path / "VOCdevkit" / "VOC2007", {"a": one})
    with pytest.raises(LoupeError, match=r"has .*VOC2007, .*VOC2012 in the layout of VOC; give one"):
        boxes(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('<!DOCTYPE a [<!ENTITY x "y">]><annotation>&x;</annotation>', "a.xml declares entities"),
        ("<annotation><object>", "a.xml is no annotation of Pascal VOC"),
        (
            xml_of([("dog", (1, 1, 5, 5))]).replace("<xmax>5</xmax>", ""),
            "a.xml is no annotation of Pascal VOC",
        ),
        (xml_of([("dog", (1, 1, 5, 5))]).replace("5", "five"), "a.xml is no annotation of Pascal VOC"),
        (xml_of([("dog", (5, 1, 3, 5))]), r"JPEGImages/a\.jpg has the box 4, 0, 3, 5 .* empty or inverted"),
        (xml_of([("dog", (1, 1, 11, 5))]), r"a\.jpg is 10x8 .* reaches beyond"),
        (xml_of([("dog", (1, 1, float("nan"), 5))]), "empty or inverted"),
    ],
)
def test_voc_files_that_cannot_be(tmp_path: Path, text: str, message: str) -> None:
    root = voc(tmp_path, {"a": []})
    (root / "Annotations" / "a.xml").write_text(text)
    with pytest.raises(LoupeError, match=message):
        boxes(root)


def test_voc_folders_that_hold_nothing_usable(tmp_path: Path) -> None:
    root = voc(tmp_path, {"a": []})
    (root / "Annotations" / "a.xml").rename(root / "Annotations" / "b.xml")
    with pytest.raises(LoupeError, match="no picture in JPEGImages with an annotation of the same name"):
        boxes(root)
    (root / "Annotations" / "b.xml").unlink()
    with pytest.raises(LoupeError, match="Annotations has no XML files"):
        boxes(root)
    (root / "ImageSets" / "Main").mkdir(parents=True)
    (root / "ImageSets/Main/train.txt").write_bytes(b"\xff\n")
    voc(root, {"a": []})
    with pytest.raises(LoupeError, match=r"train\.txt is not UTF-8"):
        boxes(root)


def test_voc_masks_have_its_classes_and_the_seam_is_void(tmp_path: Path) -> None:
    root = voc(
        tmp_path, {name: [] for name in "abc"}, {"Segmentation/train.txt": "a", "Segmentation/val.txt": "b"}
    )
    mask = np.zeros((H, W), np.uint8)
    mask[2:5, 3:6] = 12  # dog
    mask[2, 3:6] = 255
    for name in "ab":
        image = Image.frombytes("P", (W, H), mask.tobytes())
        image.putpalette([value for index in range(256) for value in (index, 255 - index, 7)])
        (root / "SegmentationClass").mkdir(exist_ok=True)
        image.save(root / "SegmentationClass" / f"{name}.png")
    data = SegmentationDataModule(str(root), image_size=(H, W), read=MaskRead(resize="stretch"), loader=ONE)
    assert torch.equal(batch_of(data)["mask"][0], torch.from_numpy(mask).long())
    assert (data.num_classes, data.class_names) == (21, VOC_CLASSES)
    assert data.class_names.index("dog") == 12
    assert data.class_counts()[12] == 6
    assert [len(part) for part in data.samples.values()] == [1, 1, 0]  # c has no mask


# --- Oxford-IIIT Pet ----------------------------------------------------------------------------------------------

PETS = ["Abyssinian_1", "great_pyrenees_12", "Abyssinian_2", "great_pyrenees_3"]


def pet(root: Path) -> Path:
    """Trimaps 1 pet, 2 background, 3 seam; boxes of heads for the training pictures only, but not for all."""
    trimap = np.full((H, W), 2, np.uint8)
    trimap[2:6, 2:6] = 3
    trimap[3:5, 3:5] = 1
    for name in [*PETS, "Abyssinian_99"]:
        save(root / "images" / f"{name}.jpg")
        save(root / "annotations" / "trimaps" / f"{name}.png", trimap)
    (root / "annotations" / "xmls").mkdir()
    for name in PETS[:2]:
        (root / "annotations" / "xmls" / f"{name}.xml").write_text(xml_of([("dog", (3, 2, 6, 7))]))
    lines = [f"{name} {1 if name[0] == 'A' else 2} 1 1\n" for name in PETS]
    (root / "annotations" / "trainval.txt").write_text("".join(lines[:3]))
    (root / "annotations" / "test.txt").write_text("\n" + lines[3])
    return root


def test_pet_labels_are_breeds(tmp_path: Path) -> None:
    found = find_labels(pet(tmp_path))
    assert found.names == [f"images/{name}.jpg" for name in PETS]
    assert found.columns["label"] == ["Abyssinian", "great_pyrenees", "Abyssinian", "great_pyrenees"]
    assert found.parts == ["train", "train", "train", "test"]
    data = ClassificationDataModule(str(tmp_path), image_size=8, read=LabelRead(), loader=ONE)
    assert batch_of(data)["label"].tolist() == [0]
    assert data.class_names == ["Abyssinian", "great_pyrenees"]
    assert [len(part) for part in data.samples.values()] == [2, 1, 1]


def test_pet_masks_leave_the_seam_out(tmp_path: Path) -> None:
    read = MaskRead(resize="stretch")
    data = SegmentationDataModule(str(pet(tmp_path)), image_size=(H, W), read=read, loader=ONE)
    expected = torch.zeros(H, W, dtype=torch.int64)
    expected[2:6, 2:6] = 255
    expected[3:5, 3:5] = 1
    assert torch.equal(batch_of(data)["mask"][0], expected)
    assert data.class_names == ["background", "pet"]
    assert data.class_counts() == [2 * (H * W - 16), 2 * 4]
    seam = MaskRead(label_mapping={1: 0, 2: 1, 3: 2}, class_names=["pet", "ground", "seam"], resize="stretch")
    own = SegmentationDataModule(str(tmp_path), image_size=(H, W), read=seam, loader=ONE)
    assert batch_of(own)["mask"][0, 2:4, 2:4].tolist() == [[2, 2], [2, 0]]


def test_pet_boxes_are_those_of_heads(tmp_path: Path) -> None:
    root = pet(tmp_path)
    assert boxes(root) == {f"images/{name}.jpg": (2, 1, 6, 7) for name in PETS[:2]}
    for name in PETS[:2]:
        (root / "annotations" / "xmls" / f"{name}.xml").unlink()
    with pytest.raises(LoupeError, match="xmls has no boxes of the pictures that the lists name"):
        boxes(root)


def test_pet_files_that_are_missing_or_none(tmp_path: Path) -> None:
    root = pet(tmp_path)
    (root / "images" / f"{PETS[1]}.jpg").unlink()
    for find in (find_labels, find_masks, find_boxes):
        with pytest.raises(LoupeError, match=r"images/great_pyrenees_12\.jpg missing, which its lists name"):
            find(root)
    problems = Problems(collecting=True)
    assert len(find_labels(root, problems)) == 3
    lists = root / "annotations" / "test.txt"
    for content, message in (
        (b"../../x_1 1 1 1\n", r"test\.txt line 1 is no line of Oxford-IIIT Pet: \.\./\.\./x_1"),
        (b"\xff_1 1\n", r"test\.txt is not UTF-8"),
    ):
        lists.write_bytes(content)
        with pytest.raises(LoupeError, match=message):
            find_labels(root, problems)
    lists.unlink()
    with pytest.raises(LoupeError, match=r"looks like Oxford-IIIT Pet, and .*test\.txt is missing"):
        find_labels(root)
