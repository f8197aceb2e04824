"""What mask values mean, and what is refused because nobody can know."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import datamodules.mask_readers
from datamodules import MaskRead
from datamodules.mask_classes import MaskValues, scan_masks, value_to_class
from datamodules.mask_readers import MaskValuesReader
from datamodules.samples import Samples
from errors import LoupeError


def values(*present: int) -> MaskValues:
    return MaskValues(dict.fromkeys(present, 10), {value: f"m{value}.png" for value in present})


def meaning(read: MaskRead, *present: int) -> tuple[dict[int, int], int]:
    table, num_classes = value_to_class(values(*present), read)
    assert table.shape == (256,)
    assert all(int(table[v]) == 255 for v in range(256) if v not in present and v not in (0, 255))
    return {value: int(table[value]) for value in present}, num_classes


@pytest.mark.parametrize(
    ("present", "read", "expected", "num_classes"),
    [
        ((0, 255), MaskRead(), {0: 0, 255: 1}, 2),
        ((255,), MaskRead(), {255: 1}, 2),
        ((0, 1), MaskRead(), {0: 0, 1: 1}, 2),
        ((0, 1, 2), MaskRead(), {0: 0, 1: 1, 2: 2}, 3),
        ((0, 1, 255), MaskRead(), {0: 0, 1: 1, 255: 255}, 2),
        ((0, 1, 255), MaskRead(ignore_index=255), {0: 0, 1: 1, 255: 255}, 2),
        ((0, 255), MaskRead(ignore_index=255, class_names=["a", "b"]), {0: 0, 255: 255}, 2),
        ((0, 1, 2, 9), MaskRead(ignore_index=9), {0: 0, 1: 1, 2: 2, 9: 255}, 3),
        ((0, 1, 2), MaskRead(ignore_index=0, class_names=["a", "b", "c"]), {0: 255, 1: 1, 2: 2}, 3),
        ((0, 3), MaskRead(class_names=list("abcd")), {0: 0, 3: 3}, 4),
        ((1, 2, 3), MaskRead(label_mapping={1: 0, 2: 1, 3: 255}), {1: 0, 2: 1, 3: 255}, 2),
        ((0, 128, 255), MaskRead(label_mapping={0: 0, 128: 1, 255: 2}), {0: 0, 128: 1, 255: 2}, 3),
        ((0, 7, 9), MaskRead(label_mapping={0: 0, 7: 1}, ignore_index=9), {0: 0, 7: 1, 9: 255}, 2),
    ],
)
def test_meaning_of_values(
    present: tuple[int, ...], read: MaskRead, expected: dict[int, int], num_classes: int
) -> None:
    assert meaning(read, *present) == (expected, num_classes)


@pytest.mark.parametrize(
    ("present", "read", "message"),
    [
        ((1, 2, 3), MaskRead(), r"mask values 1, 2, 3 .*\.label_mapping: \{1: 0, 2: 1, 3: 2\}"),
        ((0, 1, 4), MaskRead(), r"0, 1, 4 are neither .*4 is in m4.png"),
        ((0, 128, 255), MaskRead(), r"0, 128, 255 are neither"),
        (tuple(range(0, 250, 2)), MaskRead(), r"\(125 values\) .* JPEG"),
        ((0,), MaskRead(), r"the masks hold 0 and so a single class"),
        ((0, 255), MaskRead(ignore_index=255), r"single class"),
        ((0, 255), MaskRead(class_names=["a", "b", "c"]), r"two classes; data.read.class_names has 3"),
        ((0, 1, 2), MaskRead(class_names=["a", "b"]), r"class 2 \(10 pixels\), as in m2.png; .* has 2 names"),
        ((0, 1), MaskRead(class_names=["a", "a"]), r"must be different names"),
        ((0, 1, 5), MaskRead(label_mapping={0: 0, 1: 1}), r"lacks 5 \(10 pixels\), as in m5.png"),
        ((0, 1), MaskRead(label_mapping={0: 0, 1: 300}), r"values 0..255 to classes .* got \{1: 300\}"),
    ],
)
def test_values_without_a_certain_meaning_are_refused(
    present: tuple[int, ...], read: MaskRead, message: str
) -> None:
    with pytest.raises(LoupeError, match=message):
        value_to_class(values(*present), read)


@pytest.fixture
def files(tmp_path: Path) -> tuple[list[str], list[str]]:
    paths, masks = [], []
    for index, rows in enumerate([[[0, 0], [0, 1]], [[0, 2], [2, 2]]]):
        paths.append(str(tmp_path / f"{index}.jpg"))
        masks.append(str(tmp_path / f"{index}.png"))
        Image.new("RGB", (2, 2)).save(paths[-1])
        Image.fromarray(np.array(rows, np.uint8)).save(masks[-1])
    return paths, masks


def scan(paths: list[str], masks: list[str]) -> MaskValues:
    return scan_masks(Samples(paths, paths, {"mask": masks}), MaskValuesReader())


def test_scan_counts_pixels_and_names_an_example(files: tuple[list[str], list[str]]) -> None:
    paths, masks = files
    found = scan(paths, masks)
    assert found.pixels == {0: 4, 1: 1, 2: 3}
    assert found.examples == {0: masks[0], 1: masks[0], 2: masks[1]}


def test_scan_is_remembered_until_a_file_changes(
    files: tuple[list[str], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, masks = files
    first = scan(paths, masks)
    read = []
    original = datamodules.mask_readers.read_mask
    monkeypatch.setattr(
        datamodules.mask_readers, "read_mask", lambda path: (read.append(path), original(path))[1]
    )
    assert scan(paths, masks) == first
    assert read == []
    Image.fromarray(np.full((2, 2), 1, np.uint8)).save(masks[1])
    os.utime(masks[1], ns=(1, 1))
    assert scan(paths, masks).pixels == {0: 3, 1: 5}
    assert sorted(read) == masks


def test_a_damaged_or_unwritable_record_costs_only_time(
    files: tuple[list[str], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOUPE_CACHE", str(tmp_path / "cache"))
    first = scan(*files)
    (record,) = (tmp_path / "cache" / "masks").iterdir()
    assert json.loads(record.read_text())["value"]["pixels"] == [[0, 4], [1, 1], [2, 3]]
    record.write_text('{"pixels": {"0"')
    assert scan(*files) == first
    blocked = tmp_path / "file"
    blocked.touch()
    monkeypatch.setenv("LOUPE_CACHE", str(blocked))
    assert scan(*files) == first


def test_scan_refuses_sizes_that_differ(files: tuple[list[str], list[str]]) -> None:
    paths, masks = files
    Image.new("RGB", (3, 2)).save(paths[1])
    with pytest.raises(LoupeError, match=r"1.png is 2x2 and its picture .*1.jpg is 3x2"):
        scan(paths, masks)


def test_scan_compares_with_the_upright_picture(files: tuple[list[str], list[str]]) -> None:
    """A phone's picture is stored lying on its side; its mask is drawn on the upright one."""
    paths, masks = files
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (4, 2)).save(paths[0], exif=exif)
    Image.fromarray(np.zeros((4, 2), np.uint8)).save(masks[0])
    assert scan(paths, masks).pixels == {0: 9, 2: 3}
