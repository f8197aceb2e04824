"""Names in files of annotations stay in their folder, and what is no picture is never opened."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datamodules import ClassificationDataModule, LoupeDataModule, SegmentationDataModule
from datamodules.formats import find_boxes, find_labels, find_masks
from datamodules.formats.confines import leaves
from datamodules.formats.voc import read_voc_objects
from datamodules.images import UnreadableError, image_size_hw, read_image, read_mask
from datamodules.members import member_entry, read_member
from datamodules.options import BoxRead, LabelRead, MaskRead
from datamodules.polygons import decode_run_lengths, fill_polygon
from datamodules.predict_paths import find_predict_paths
from errors import LoupeError


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A data folder with a.png, and beside it a secret.png that no manifest may name."""
    (tmp_path / "data" / "sub").mkdir(parents=True)
    for name in ("data/a.png", "data/b.png", "data/sub/c.png", "secret.png"):
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / name)
    return tmp_path / "data"


def csv_of(root: Path, *rows: str, header: str) -> Path:
    (root / "manifest.csv").write_text("\n".join([header, *rows]) + "\n")
    return root


def labels(root: Path, name: str) -> None:
    csv_of(root, "a.png,x", f"{name},y", header="path,label")
    find_labels(root)


def masks(root: Path, name: str) -> None:
    csv_of(root, f"a.png,{name}", header="path,mask")
    find_masks(root)


def boxes(root: Path, name: str) -> None:
    csv_of(root, f"{name},0,0,4,4", header="path,x1,y1,x2,y2")
    find_boxes(root)


def boxes_of_masks(root: Path, name: str) -> None:
    csv_of(root, f"a.png,{name}", header="path,mask")
    find_boxes(root)


def json_lines(root: Path, name: str) -> None:
    lines = [json.dumps({"path": "a.png", "label": "x"}), json.dumps({"path": name, "label": "y"})]
    (root / "manifest.jsonl").write_text("\n".join(lines))
    find_labels(root)


def parquet(root: Path, name: str) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow.parquet import write_table

    write_table(pyarrow.table({"path": ["a.png", name], "label": ["x", "y"]}), root / "manifest.parquet")
    find_labels(root)


def prediction(root: Path, name: str) -> None:
    csv_of(root, "a.png", name, header="path")
    find_predict_paths(str(root / "manifest.csv"))


def coco(root: Path, name: str) -> None:
    content = {
        "categories": [{"id": 1, "name": "x"}],
        "images": [
            {"id": 1, "file_name": "a.png", "height": 8, "width": 8},
            {"id": 2, "file_name": name, "height": 8, "width": 8},
        ],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 4, 4]}],
    }
    (root / "annotations.json").write_text(json.dumps(content))
    find_boxes(root)


def shard_list(root: Path, name: str) -> None:
    (root / "list.txt").write_text(f"{name}\n")
    find_labels(root / "list.txt")


KINDS = [labels, masks, boxes, boxes_of_masks, json_lines, parquet, prediction, coco, shard_list]


@pytest.mark.parametrize(
    "name", ["../secret.png", "sub/../../secret.png", "{above}/secret.png", "link/../secret.png"]
)
@pytest.mark.parametrize("read", KINDS)
def test_a_name_that_leaves_the_folder_is_refused(
    place: Path, read: Callable[[Path, str], None], name: str
) -> None:
    (place.parent / "elsewhere" / "deep").mkdir(parents=True)
    Image.new("L", (8, 8)).save(place.parent / "elsewhere" / "secret.png")
    (place / "link").symlink_to(place.parent / "elsewhere" / "deep")
    name = name.format(above=place.parent)
    with pytest.raises(LoupeError, match="outside of") as error:
        read(place, name)
    assert name in str(error.value), "the path"
    assert "data.read.outside_root=true" in str(error.value), "the setting"
    assert any(f"{word} " in str(error.value) for word in ("line", "row", "image")), "the row"


@pytest.mark.parametrize("name", ["sub/c.png", "./sub/../sub/c.png", "{here}/sub/c.png", "link/secret.png"])
@pytest.mark.parametrize("read", KINDS[:-1])
def test_a_name_within_the_folder_is_read_also_behind_a_link(
    place: Path, read: Callable[[Path, str], None], name: str
) -> None:
    """A link is the user's own, put there on this machine; a manifest may come from anywhere."""
    (place / "link").symlink_to(place.parent)
    read(place, name.format(here=place))


def test_the_setting_allows_it(place: Path) -> None:
    csv_of(place, "a.png,x", "../secret.png,y", header="path,label")
    assert len(find_labels(place, outside_root=True)) == 2
    data = ClassificationDataModule(str(place), read=LabelRead(outside_root=True))
    assert len(data.find_samples(place)) == 2
    csv_of(place, "a.png,../secret.png", header="path,mask")
    assert len(find_masks(place, MaskRead(outside_root=True)).samples) == 1
    csv_of(place, "../secret.png,0,0,4,4", header="path,x1,y1,x2,y2")
    assert len(find_boxes(place, BoxRead(outside_root=True))) == 1


def test_check_tells_of_all_rows_and_opens_none(place: Path) -> None:
    csv_of(place, "a.png,x", "b.png,y", "../secret.png,y", "/etc/passwd,x", header="path,label")
    data: LoupeDataModule = ClassificationDataModule(str(place))
    data.problems.collecting = True
    assert len(data.find_samples(place)) == 2
    (problem,) = data.problems.found
    assert problem.kind == "path outside data.root"
    assert problem.cases == 2
    assert problem.files == ()


def test_a_root_that_is_a_link_may_be_named_by_its_target(place: Path) -> None:
    link = place.parent / "link"
    link.symlink_to(place)
    assert not leaves(link, str(place / "a.png"))
    assert not leaves(link, str(link / "a.png"))
    assert leaves(place, str(place) + "-other/a.png"), "beginning alike is not being inside"


@pytest.mark.parametrize(
    "address", ["file:///etc/passwd", "local:///a.tar", "simplecache::file:///a.tar", "zip://a::/b"]
)
def test_an_address_of_a_local_file_is_refused(place: Path, address: str) -> None:
    (place / "list.txt").write_text(address)
    with pytest.raises(LoupeError, match=r"line 1.*outside_root"):
        find_labels(place / "list.txt")


def tar(path: Path, files: dict[str, bytes], **header: int) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def test_the_json_in_a_shard_names_no_files(place: Path) -> None:
    picture = (place / "a.png").read_bytes()
    (place / "only").mkdir()
    tar(place / "only/train-0.tar", {"0.png": picture, "0.json": b'{"mask": "/etc/passwd"}'})
    with pytest.raises(LoupeError, match="has no mask"):
        find_masks(place / "only")


@pytest.mark.timeout(20)
def test_sizes_in_a_shard_that_cannot_be_are_refused(place: Path) -> None:
    (place / "only").mkdir()
    path = tar(place / "only/train-0.tar", {"0.json": b"{}", "1.json": b"{}"})
    data = bytearray(path.read_bytes())
    for size in (b"\xff" * 12, b"77777777777\0"):  # -1, and 8 GiB
        data[124:136] = size
        data[148:156] = b" " * 8
        data[148:156] = b"%06o\0 " % sum(data[:512])
        path.write_bytes(data)
        os.utime(path, ns=(0, data[124]))  # the index of a shard is remembered until it changes
        with pytest.raises(LoupeError, match="cannot be read as a tar file"):
            find_labels(place / "only")
    with pytest.raises(OSError, match="ends within"):
        read_member(member_entry(str(path), 0, 2**60, "a.png"))


@pytest.mark.timeout(20)
def test_a_pipe_is_never_waited_for(place: Path, loupe: Callable[..., Any]) -> None:
    os.mkfifo(place / "p.png")
    for read in (read_image, read_mask):
        with pytest.raises(UnreadableError, match="pipe or a device"):
            read(place / "p.png")
    with pytest.raises(UnreadableError, match="pipe or a device"):
        read_image("/dev/zero")
    csv_of(place, "a.png,x", "p.png,y", header="path,label")
    with pytest.raises(LoupeError, match="missing"):
        find_labels(place)
    for config in (place / "p.png", Path("/dev/zero"), place):
        outcome = loupe("fit", f"--config={config}")
        assert outcome.code == 2
        assert "give a YAML file" in outcome.err


def test_names_that_no_file_can_have(place: Path) -> None:
    for name in ("x" * 5000, "a\0b.png", "~nobody-here/a"):
        with pytest.raises(LoupeError):
            find_predict_paths(name)
        data = SegmentationDataModule(name)
        with pytest.raises(LoupeError):
            data.setup("fit")
        with pytest.raises(UnreadableError):
            read_image(name)
        with pytest.raises(UnreadableError):
            image_size_hw(name)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_xml_declares_no_entities(place: Path, encoding: str) -> None:
    text = '<!DOCTYPE a [<!ENTITY b "bbbb">]><annotation><object><name>&b;</name></object></annotation>'
    (place / "a.xml").write_text(text, encoding=encoding)
    with pytest.raises(LoupeError, match=r"entities|UTF-8"):
        read_voc_objects(place / "a.xml")


@pytest.mark.timeout(20)
def test_outlines_that_would_take_all_memory_or_time() -> None:
    zigzag = np.tile([0.0, 0.0, 1.0, 20_000.0], 4000)
    with pytest.raises(ValueError, match="crosses"):
        fill_polygon(np.zeros((20_000, 2), bool), zigzag.tolist())
    with pytest.raises(ValueError, match="without an end"):
        decode_run_lengths("o" * 1_000_000, (4, 4))
