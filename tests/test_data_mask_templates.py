"""Where masks lie beside their pictures, and the boxes of what they show."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datamodules import BoxRead, CropDataModule, Loader, MaskRead, SegmentationDataModule, Split
from datamodules.formats import box_of, find_boxes, find_masks
from datamodules.formats.mask_boxes import box_of_mask
from datamodules.problems import Problems
from errors import LoupeError

W, H = 8, 6


def put(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (W, H)).save(path)
    return root


def pairs(root: Path, images: str = "images", masks: str = "masks/{stem}") -> list[tuple[str, str, str, str]]:
    """Name, picture, mask and part of each sample; files as they lie below the root."""
    found = find_masks(root, MaskRead(images=images, masks=masks)).samples
    files = [[str(Path(path).relative_to(root)) for path in c] for c in (found.paths, found.columns["mask"])]
    return list(zip(found.names, *files, found.parts, strict=True))


# --- templates ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("images", "masks", "files", "expected"),
    [
        ("images", "masks/{stem}_mask", ["images/a.jpg", "masks/a_mask.png"], "images/a"),
        ("images", "masks/{stem}_mask.png", ["images/a.jpg", "masks/a_mask.png", "masks/a_mask.bmp"], "images/a"),
        ("images", "masks/m_{stem}", ["images/a.jpg", "masks/m_a.tif"], "images/a"),
        ("photos/rgb", "gt/fine/{stem}.labels", ["photos/rgb/a.jpg", "gt/fine/a.labels.png"], "photos/rgb/a"),
        ("images", "masks/{stem}/whole.png", ["images/a.jpg", "masks/a/whole.png", "masks/a/edge.png"], "images/a"),
        # one folder for both
        ("images", "images/{stem}_mask", ["images/a.png", "images/a_mask.png"], "images/a"),
        ("images", "images/mask_{stem}", ["images/a.png", "images/mask_a.png"], "images/a"),
        ("images", "images/{stem}.png", ["images/a.jpg", "images/a.png"], "images/a"),
        (".", "{stem}_mask", ["a.png", "a_mask.png"], "a"),
        (".", "m/{stem}", ["a.jpg", "m/a.png"], "a"),
        # folders below: the name counts from the folder of pictures
        ("images", "masks/{stem}_m", ["images/x/y/a.jpg", "masks/x/y/a_m.png"], "images/x/y/a"),
        (".", "{stem}_mask", ["x/a.png", "x/a_mask.png"], "x/a"),
        # a name that ends as masks do, and letters that mean something in a pattern
        ("images", "masks/{stem}_mask", ["images/a_mask.jpg", "masks/a_mask_mask.png"], "images/a_mask"),
        ("images", "masks (1)/{stem}+", ["images/a.b.jpg", "masks (1)/a.b+.png"], "images/a.b"),
        # other spellings of a folder
        ("./images/", ".//masks/{stem}", ["images/a.jpg", "masks/a.png"], "images/a"),
    ],
)  # fmt: skip
def test_templates(tmp_path: Path, images: str, masks: str, files: list[str], expected: str) -> None:
    put(tmp_path, *files)
    assert pairs(tmp_path, images, masks) == [(expected, files[0], files[1], "")]
    for part in ("train", "valid"):
        put(tmp_path / "parts" / part, *files)
    assert pairs(tmp_path / "parts", images, masks) == [
        (f"{part}/{expected}", f"{part}/{files[0]}", f"{part}/{files[1]}", usual)
        for part, usual in (("train", "train"), ("valid", "val"))
    ]


def test_a_segmenter_and_a_cropper_take_them(tmp_path: Path) -> None:
    for i in range(6):
        Image.new("RGB", (W, H)).save(tmp_path / f"{i}.png")
        mask = np.zeros((H, W), np.uint8)
        mask[1:3, 2 : 3 + i % 3] = 1
        Image.fromarray(mask).save(tmp_path / f"{i}_mask.png")
    one = {"split": Split(val=0.4, test=0), "loader": Loader(batch_size=1, num_workers=0)}
    masks = SegmentationDataModule(str(tmp_path), read=MaskRead(images=".", masks="{stem}_mask"), **one)
    masks.setup("fit")
    assert sum(masks.class_counts()) == 4 * W * H
    read = BoxRead(images=".", masks="{stem}_mask", resize="stretch")
    boxes = CropDataModule(str(tmp_path), read=read, image_size=(H, W), **one)
    boxes.setup("fit")
    for batch in boxes.val_dataloader():
        number = int(Path(boxes.val_paths[int(batch["index"])]).stem)
        expected = [2 / W, 1 / H, (3 + number % 3) / W, 3 / H]
        assert batch["box"][0].tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("images", "masks", "message"),
    [
        ("images", "masks", r"data\.read\.masks is 'masks'; it says where .* with \{stem\}"),
        ("images", "{stem}/{stem}", r"data\.read\.masks is '\{stem\}/\{stem\}'"),
        (
            "images",
            "../masks/{stem}",
            r"data\.read\.masks is '\.\./masks/\{stem\}'; it is a place below data\.root",
        ),
        ("images", "/masks/{stem}", r"data\.read\.masks .* below data\.root"),
        ("/images", "masks/{stem}", r"data\.read\.images is '/images'; it is a place below data\.root"),
        ("", "masks/{stem}", r"data\.read\.images is ''"),
        ("images", "images/{stem}", r"data\.read\.masks 'images/\{stem\}' names the pictures themselves"),
        (".", "{stem}", "names the pictures themselves"),
        ("photos", "gt/m_{stem}", r"has no photos/ and gt/, no train/photos and train/gt, .*it holds images"),
        ("images", "gt/m_{stem}", r"has images/ and no gt/"),
        ("images", "images/x_{stem}", r"without a mask: a\n"),
        ("images", "images/{stem}.jpg", "images has no pictures"),
    ],
)
def test_templates_that_cannot_be(tmp_path: Path, images: str, masks: str, message: str) -> None:
    put(tmp_path, "images/a.jpg")
    with pytest.raises(LoupeError, match=message):
        pairs(tmp_path, images, masks)


def test_partners_that_are_missing_are_named_by_the_template(tmp_path: Path) -> None:
    put(tmp_path, "images/a.jpg", "images/b.jpg", "masks/b_m.png", "masks/c_m.png", "masks/a.png")
    with pytest.raises(LoupeError) as caught:
        pairs(tmp_path, masks="masks/{stem}_m")
    assert "a mask has the name masks/{stem}_m, with any suffix" in str(caught.value)
    assert "1 of 2 pictures without a mask: a" in str(caught.value)
    assert "1 of 2 masks without a picture: c" in str(caught.value)
    put(tmp_path, "masks/b_m.bmp")
    with pytest.raises(LoupeError, match=r"masks has two files for one name: b_m\.bmp and b_m\.png"):
        pairs(tmp_path, masks="masks/{stem}_m")


# --- boxes of masks -----------------------------------------------------------------------------------------------


def grid(*rows: str) -> np.ndarray:
    """Digits are values, `v` is 255."""
    return np.array([[255 if c == "v" else int(c) for c in row] for row in rows], dtype=np.uint8)


TWO = ("00000000", "01100000", "01000000", "00000330", "00000330", "v0000000")


@pytest.mark.parametrize(
    ("rows", "value", "largest", "expected"),
    [
        (TWO, None, True, (5, 3, 7, 5)),
        (TWO, None, False, (1, 1, 7, 5)),
        (TWO, 1, True, (1, 1, 3, 3)),
        (TWO, 3, False, (5, 3, 7, 5)),
        (TWO, 255, True, (0, 5, 1, 6)),
        (TWO, 7, True, None),
        (("0000", "0000"), None, True, None),
        (("00v0", "00v0"), None, True, (2, 0, 3, 2)),  # 0 and 255: foreground
        (("1111", "1111"), None, True, (0, 0, 4, 2)),
        (("0001", "0010", "0100", "0000"), None, True, (1, 0, 4, 3)),  # touching by corners is one piece
        (("1020", "1020"), None, True, (0, 0, 1, 2)),  # of equals the first
        (("0120", "0000"), None, True, (1, 0, 3, 1)),  # values side by side are one object
        (("1v01", "0000"), None, False, (0, 0, 4, 1)),
        (("0100",), 0, False, (0, 0, 4, 1)),
    ],
)
def test_box_of_a_mask(rows: tuple[str, ...], value: int | None, largest: bool, expected: Any) -> None:
    assert box_of_mask(grid(*rows), value=value, largest_only=largest) == expected


def masked(root: Path, masks: dict[str, np.ndarray]) -> Path:
    for name, mask in masks.items():
        put(root, f"images/{name}.jpg", f"masks/{name}.png")
        Image.fromarray(mask).save(root / "masks" / f"{name}.png")
    return root


def boxes(root: Path, **read: Any) -> list[Any]:
    found = find_boxes(root, BoxRead(**read))
    return [box_of(found, row) for row in range(len(found))]


def test_settings_reach_the_boxes_although_they_are_remembered(tmp_path: Path) -> None:
    root = masked(tmp_path, {"a": grid(*TWO), "b": np.zeros((H, W), np.uint8)})
    for _ in range(2):
        assert boxes(root) == [(5, 3, 7, 5), None]
        assert boxes(root, mask_object="union") == [(1, 1, 7, 5), None]
        assert boxes(root, mask_value=1) == [(1, 1, 3, 3), None]
    masked(tmp_path, {"b": grid(*TWO)[::-1]})
    assert boxes(root) == [(5, 3, 7, 5), (5, 1, 7, 3)]


def test_a_manifest_names_the_masks(tmp_path: Path) -> None:
    root = masked(tmp_path, {"a": grid(*TWO)})
    (root / "list.csv").write_text("path,mask,split\nimages/a.jpg,masks/a.png,val\n")
    found = find_boxes(root / "list.csv")
    assert (box_of(found, 0), found.parts) == ((5, 3, 7, 5), ["val"])


def test_masks_without_any_object(tmp_path: Path) -> None:
    root = masked(tmp_path, {name: np.zeros((H, W), np.uint8) for name in "abcdef"})
    with pytest.raises(LoupeError, match="no picture of the train part has a box"):
        CropDataModule(str(root)).setup("fit")
    with pytest.raises(
        LoupeError, match=r"data\.read\.category is 'cat', and the boxes of .* no named class"
    ):
        boxes(root, category="cat")


def test_masks_that_cannot_be_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = masked(tmp_path, {"a": grid(*TWO), "b": grid(*TWO), "c": np.zeros((H, W), np.uint8)})
    (root / "masks/b.png").write_bytes(b"no picture")
    with pytest.raises(LoupeError, match=r"masks/b\.png"):
        boxes(root)
    for _ in range(2):  # the second time from the cache
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert boxes(root, on_error="skip") == [(5, 3, 7, 5), None]
        assert "on_error=skip: 1 mask:" in caplog.text
        assert "masks/b.png could not be read" in caplog.text
    with pytest.raises(LoupeError, match=r"masks/b\.png"):
        boxes(root)
    problems = Problems(collecting=True)
    assert find_boxes(root, problems=problems).names == ["images/a", "images/c"]
    assert [(problem.kind, problem.files[1]) for problem in problems.found] == [
        ("unreadable mask", str(root / "masks/b.png"))
    ]


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_a_mask_of_another_size_is_refused(tmp_path: Path, on_error: str) -> None:
    root = masked(tmp_path, {"a": grid(*TWO), "b": grid("01", "00")})
    message = r"masks/b\.png is 2x2 and its picture .*images/b\.jpg is 8x6 \(width x height, upright\)"
    for _ in range(2):
        with pytest.raises(LoupeError, match=message):
            boxes(root, on_error=on_error)
    problems = Problems(collecting=True)
    assert find_boxes(root, problems=problems).names == ["images/a"]
    assert [problem.kind for problem in problems.found] == ["mask of another size"]


def test_a_mask_without_values_is_named(tmp_path: Path) -> None:
    root = masked(tmp_path, {"a": np.random.default_rng(0).integers(0, 255, (H, W, 3), dtype=np.uint8)})
    with pytest.raises(LoupeError, match=r"masks/a\.png"):
        boxes(root)
