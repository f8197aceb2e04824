"""COCO: what is over what, which box counts, where files may lie, and what of them is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import BoxRead, CropDataModule, Loader, MaskRead, SegmentationDataModule, Split
from datamodules.formats import box_of, find_boxes, find_masks
from datamodules.problems import Problems
from errors import LoupeError

H, W = 6, 8
CATEGORIES = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}, {"id": 90, "name": "bird"}]
SQUARE = [1.0, 1.0, 5.0, 1.0, 5.0, 5.0, 1.0, 5.0]  # columns 1..4, rows 1..4


def thing(image: int, category: int, outline: Any = None, bbox: Any = None, **more: Any) -> dict[str, Any]:
    entry: dict[str, Any] = {"image_id": image, "category_id": category, "bbox": bbox or [1, 1, 4, 4], **more}
    return entry if outline is None else {**entry, "segmentation": outline}


def write(
    file: Path, objects: list[dict[str, Any]], names: list[str], pictures: Path | None = None, **more: Any
) -> Path:
    """An annotation file with numbered objects, and its pictures of 8x6 (in `pictures`, or beside it)."""
    images = [{"id": i, "file_name": name, "height": H, "width": W} for i, name in enumerate(names)]
    numbered = [{"id": 100 + i, **entry} for i, entry in enumerate(objects)]
    content = {"images": images, "annotations": numbered, "categories": CATEGORIES, **more}
    file.parent.mkdir(parents=True, exist_ok=True)
    for name in names:
        path = (pictures or file.parent) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (W, H)).save(path)
    file.write_text(json.dumps(content))
    return file


def masks_of(root: Path) -> list[list[list[int]]]:
    found = find_masks(root)
    return [found.reader.read(entry).tolist() for entry in found.samples.columns["mask"]]


# --- masks --------------------------------------------------------------------------------------------------------


def test_classes_crowds_and_what_is_over_what(tmp_path: Path) -> None:
    crowd = {"size": [H, W], "counts": [0, 3 * H, 5 * H]}  # the columns 0 to 2
    file = write(
        tmp_path / "annotations.json",
        [
            thing(0, 90, [[2, 2, 4, 2, 4, 3, 2, 3]]),  # small, and named first
            thing(0, 7, [SQUARE]),
            thing(0, 3, crowd, iscrowd=1),
            thing(1, 3, [[0, 0, 1, 0, 1, 1, 0, 1], [7, 5, 8, 5, 8, 6, 7, 6]]),  # of two pieces
            thing(1, 3, []),
        ],
        ["a.png", "b.png", "c.png"],
    )
    found = find_masks(tmp_path)
    # by their ids 3, 7, 90 behind the background
    assert found.class_names == ["background", "cat", "dog", "bird"]
    first = np.zeros((H, W), int)
    first[:, :3] = 255
    first[1:5, 1:5] = 2
    first[2, 2:4] = 3
    second = np.zeros((H, W), int)
    second[0, 0] = second[5, 7] = 1
    assert masks_of(file) == [first.tolist(), second.tolist(), np.zeros((H, W), int).tolist()]
    assert found.samples.names == ["a.png", "b.png", "c.png"]
    assert found.reader.title(found.samples.columns["mask"][0]) == "the annotation of a.png"


def test_a_smaller_object_is_over_a_larger_one_in_either_order(tmp_path: Path) -> None:
    objects = [thing(0, 3, [[0, 0, 8, 0, 8, 6, 0, 6]]), thing(0, 7, [SQUARE])]
    one = masks_of(write(tmp_path / "1" / "annotations.json", objects, ["a.png"]))
    other = masks_of(write(tmp_path / "2" / "annotations.json", objects[::-1], ["a.png"]))
    assert one == other
    assert (np.bincount(np.ravel(one)).tolist()) == [0, 32, 16]


def test_a_segmenter_reads_it(tmp_path: Path) -> None:
    for part, year in (("train", 2017), ("val", 2017)):
        objects = [thing(0, 7, [SQUARE]), thing(0, 3, {"size": [H, W], "counts": [42, 6]}, iscrowd=1)]
        file = tmp_path / "annotations" / f"instances_{part}{year}.json"
        write(file, objects, [f"{part}.png"], tmp_path / f"{part}{year}")
    (tmp_path / "annotations" / "instances_other.json").write_text("{}")
    data = SegmentationDataModule(
        str(tmp_path),
        image_size=(H, W),
        read=MaskRead(resize="stretch"),
        loader=Loader(batch_size=1, num_workers=0),
    )
    data.setup("fit")
    assert data.class_names == ["background", "cat", "dog", "bird"]
    assert {part: list(inside.names) for part, inside in data.samples.items()} == {
        "train": ["train/train.png"],
        "val": ["val/val.png"],
        "test": [],
    }
    expected = torch.zeros(H, W, dtype=torch.int64)
    expected[1:5, 1:5] = 2
    expected[:, 7] = 255
    for batch in (*data.train_dataloader(), *data.val_dataloader()):
        assert torch.equal(batch["mask"][0], expected)
    assert data.class_counts() == [26, 0, 16, 0]


def test_masks_that_changed_are_counted_again(tmp_path: Path) -> None:
    for outline, count in ((SQUARE, 16), ([0, 0, 2, 0, 2, 1, 0, 1], 2)):
        write(tmp_path / "annotations.json", [thing(i, 3, [outline]) for i in (0, 1)], ["a.png", "b.png"])
        data = SegmentationDataModule(str(tmp_path), image_size=8, split=Split(val=0.5, test=0.0))
        data.setup("fit")
        assert data.class_counts() == [48 - count, count, 0, 0]


# --- boxes --------------------------------------------------------------------------------------------------------


def test_boxes_of_a_category_as_roboflow_exports_them(tmp_path: Path) -> None:
    for part in ("train", "valid", "test"):
        objects = [
            thing(0, 7, bbox=[0, 0, 8, 6]),
            thing(0, 3, bbox=[1, 2, 3, 2]),
            thing(0, 3, bbox=[1.5, 0.5, 2.25, 4]),
            thing(0, 3, bbox=[0, 0, 8, 6], iscrowd=1),
        ]
        write(tmp_path / part / "_annotations.coco.json", objects, ["a.jpg", "b.jpg"])
    any_thing = find_boxes(tmp_path)
    assert any_thing.names == [f"{p}/{n}.jpg" for p in ("test", "train", "val") for n in "ab"]
    assert (box_of(any_thing, 0), box_of(any_thing, 1)) == ((0, 0, 8, 6), None)
    cats = find_boxes(tmp_path, BoxRead(category="cat"))
    assert cats.parts == ["test", "test", "train", "train", "val", "val"]
    assert [box_of(cats, row) for row in (0, 1)] == [(1.5, 0.5, 3.75, 4.5), None]

    read = BoxRead(category="cat", resize="stretch")
    data = CropDataModule(str(tmp_path), image_size=(H, W), read=read, loader=Loader(2, num_workers=0))
    data.setup("fit")
    batch = next(iter(data.val_dataloader()))
    assert batch["has_box"].tolist() == [True, False]
    assert batch["box"][0].tolist() == pytest.approx([1.5 / 8, 0.5 / 6, 3.75 / 8, 4.5 / 6])


def test_boxes_that_cannot_be(tmp_path: Path) -> None:
    def boxes(*objects: dict[str, Any], **read: Any) -> None:
        find_boxes(write(tmp_path / "annotations.json", list(objects), ["a.png"]), BoxRead(**read))

    with pytest.raises(
        LoupeError, match=r"data\.read\.category is 'cow'; .*annotations\.json has cat, dog, bird"
    ):
        boxes(thing(0, 3), category="cow")
    for bbox in ([1, 2, 3], [1, 2, 3, "x"], 5, [1, 2, 3, None]):
        with pytest.raises(LoupeError, match=r"annotation 100 has the bbox .*valid: \[x, y, width, height\]"):
            boxes(thing(0, 3, bbox=bbox))
    for bbox in ([1, 2, 0, 3], [1, 2, -1, 3], [1, 2, float("nan"), 3]):
        with pytest.raises(LoupeError, match=r"a\.png has the box .* empty or inverted"):
            boxes(thing(0, 3, bbox=bbox))
    with pytest.raises(LoupeError, match=r"a\.png is 8x6 .* reaches beyond"):
        boxes(thing(0, 3, bbox=[1, 2, 7.5, 3]))


# --- what is wrong ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("objects", "more", "message"),
    [
        ([], {"images": []}, "has no images or no categories"),
        ([], {"categories": []}, "has no images or no categories"),
        ([], {"images": [{"id": 0, "file_name": "a.png", "width": 8}]}, r"no annotation file of COCO .*'height'"),
        ([], {"images": [{"id": 0, "file_name": "a.png", "width": 8, "height": "6"}]}, r"height and width \('6', 8\)"),
        ([], {"images": [{"id": 0, "file_name": "a.png", "width": 8, "height": 6}] * 2}, "two images of one id"),
        ([], {"annotations": None}, "no annotation file of COCO"),
        ([], {"images": {"a": 1}}, "no annotation file of COCO"),
        ([], {"categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]}, "two categories of one name or id: a"),
        ([], {"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}, "two categories of one name or id: b"),
        ([], {"categories": [{"id": "x", "name": "a"}, {"id": 1, "name": "b"}]}, "no annotation file of COCO"),
        ([thing(5, 3, [SQUARE])], {}, "annotation 100 names image 5 or category 3"),
        ([thing(0, 4, [SQUARE])], {}, "annotation 100 names image 0 or category 4"),
        ([thing(0, 3)], {}, r"annotations\.json: no annotation has a segmentation; boxes alone"),
    ],
)  # fmt: skip
def test_files_that_cannot_be(
    tmp_path: Path, objects: list[dict[str, Any]], more: dict[str, Any], message: str
) -> None:
    write(tmp_path / "annotations.json", objects, ["a.png"], **more)
    with pytest.raises(LoupeError, match=message):
        find_masks(tmp_path)


@pytest.mark.parametrize(
    ("outline", "message"),
    [
        ([[1, 1, 2, 2]], "a polygon has 4 numbers; three points are 6"),
        ([[1, 1, 2, 2, 3, 3, 4]], "a polygon has 7 numbers"),
        ([[1, 1, 2, 2, 3, "x"]], "could not convert"),
        ([[1, 1, 2, 2, 3, float("nan")]], "no finite number"),
        ([5], "int"),
        ({"size": [W, H], "counts": [48]}, r"run lengths are of size \[8, 6\]"),
        ({"size": [H, W], "counts": [40]}, "add up to 40, and the picture has 6 x 8"),
        ({"size": [H, W]}, "counts"),
    ],
)
def test_outlines_that_cannot_be_name_their_picture(tmp_path: Path, outline: Any, message: str) -> None:
    write(tmp_path / "annotations.json", [thing(0, 3, outline)], ["a.png"])
    with pytest.raises(LoupeError, match=rf"the segmentation of a\.png cannot be drawn: .*{message}"):
        masks_of(tmp_path)


def test_what_is_no_json_or_missing_or_of_two_minds(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    for content, message in ((b"{", "x.json is no JSON"), (b"\xff", "is no JSON"), (b"[]", "lacks images")):
        file.write_bytes(content)
        with pytest.raises(LoupeError, match=message):
            find_masks(file)
    write(file, [thing(0, 3, [SQUARE])], ["a.png", "b.png", "c.png"])
    (tmp_path / "b.png").unlink()
    with pytest.raises(LoupeError, match=r"x\.json: 1 of 3 pictures are missing, .*b\.png"):
        find_masks(file)
    problems = Problems(collecting=True)
    assert find_masks(file, problems=problems).samples.names == ["a.png", "c.png"]
    assert [problem.files for problem in problems.found] == [(str(tmp_path / "b.png"),)]
    write(file, [thing(0, 3, [SQUARE])], ["a.png", "./a.png"])
    with pytest.raises(LoupeError, match=r"x\.json lists 1 picture: .*a\.png more than once"):
        find_masks(file)


def test_parts_that_do_not_agree(tmp_path: Path) -> None:
    for part in ("train", "val"):
        write(tmp_path / "annotations" / f"instances_{part}.json", [thing(0, 3, [SQUARE])], ["a.png"])
    with pytest.raises(LoupeError, match=r"instances_val\.json lists 1 picture: .*or another part does"):
        find_masks(tmp_path)
    other = [{"id": 3, "name": "cow"}]
    write(tmp_path / "annotations" / "instances_val.json", [thing(0, 3)], ["b.png"], categories=other)
    with pytest.raises(
        LoupeError, match=r"instances_val\.json has other categories than the other parts: cow"
    ):
        find_masks(tmp_path)
    write(tmp_path / "annotations" / "instances_validation.json", [thing(0, 3)], ["b.png"])
    with pytest.raises(LoupeError, match="two annotation files for one part"):
        find_masks(tmp_path)


def test_settings_of_mask_files_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "annotations.json", [thing(0, 3, [SQUARE])], [f"{i}.png" for i in range(4)])
    for read, message in (
        (MaskRead(label_mapping={0: 0}), r"data\.read\.label_mapping is of mask files"),
        (MaskRead(ignore_index=0), r"data\.read\.ignore_index is of mask files"),
        (
            MaskRead(class_names=["a", "b"]),
            r"has 2 names, and the annotations have 4 classes: background, cat",
        ),
    ):
        with pytest.raises(LoupeError, match=message):
            SegmentationDataModule(str(tmp_path), read=read).setup("fit")
