"""Damaged and hostile pictures, masks and annotations: a message that names the file, and no memory for nothing."""

from __future__ import annotations

import io
import json
import struct
import tarfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from datamodules import ClassificationDataModule, CropDataModule, LoupeDataModule, SegmentationDataModule
from datamodules.formats import find_boxes, find_labels, find_masks
from datamodules.images import UnreadableError, image_size_hw, read_image, read_mask, read_rgb
from datamodules.options import Loader
from errors import LoupeError
from tests.fuzzing import fuzz

FORMATS = {
    "png": "PNG",
    "jpg": "JPEG",
    "tif": "TIFF",
    "webp": "WEBP",
    "bmp": "BMP",
    "gif": "GIF",
    "ppm": "PPM",
}


def encoded(kind: str, *, size: tuple[int, int] = (16, 12)) -> bytes:
    rng = np.random.default_rng(1)
    match kind:
        case "deep.png":
            return deep_png(*size, b"".join(b"\0" + rng.bytes(6 * size[0]) for _ in range(size[1])))
        case "deep.tif":
            tifffile = pytest.importorskip("tifffile")
            stream = io.BytesIO()
            tifffile.imwrite(
                stream, rng.integers(0, 60000, (5, *size), dtype=np.uint16), photometric="minisblack"
            )
            return stream.getvalue()
        case "palette.png":
            stream = io.BytesIO()
            Image.fromarray(rng.integers(0, 3, size, dtype=np.uint8)).convert("P").save(stream, "PNG")
            return stream.getvalue()
        case _:
            stream = io.BytesIO()
            Image.fromarray(rng.integers(0, 255, (*size, 3), dtype=np.uint8)).save(stream, FORMATS[kind])
            return stream.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def deep_png(width: int, height: int, rows: bytes, *, bits: int = 16, colour: int = 2) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows, 9)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


# ---- bombs: headers that claim 50,000 x 50,000 pixels, in a few hundred bytes


def bomb(kind: str) -> bytes:
    huge = 50_000
    match kind:
        case "png" | "deep.png":
            return deep_png(huge, huge, bytes(100), bits=8 if kind == "png" else 16)
        case "jpg":
            data = bytearray(encoded("jpg"))
            place = data.index(b"\xff\xc0")
            data[place + 5 : place + 9] = struct.pack(">HH", huge, huge)
            return bytes(data)
        case "progressive.jpg":
            stream = io.BytesIO()
            Image.new("RGB", (16, 16)).save(stream, "JPEG", progressive=True)
            data = bytearray(stream.getvalue())
            place = data.index(b"\xff\xc2")
            data[place + 5 : place + 9] = struct.pack(">HH", huge, huge)
            return bytes(data)
        case "bmp":
            data = bytearray(encoded("bmp"))
            data[18:26] = struct.pack("<ii", huge, huge)
            return bytes(data)
        case "gif":
            data = bytearray(encoded("gif"))
            data[6:10] = struct.pack("<HH", huge, huge)
            return bytes(data)
        case "ppm":
            return b"P6\n%d %d\n255\n" % (huge, huge) + bytes(100)
        case "tif" | "deep.tif":
            tifffile = pytest.importorskip("tifffile")
            stream = io.BytesIO()
            options = {"photometric": "rgb"} if kind == "deep.tif" else {"photometric": "minisblack"}
            shape = (8, 8, 3) if kind == "deep.tif" else (8, 8)
            dtype = np.uint16 if kind == "deep.tif" else np.uint8
            tifffile.imwrite(stream, np.zeros(shape, dtype), metadata=None, **options)
            data = bytearray(stream.getvalue())
            with tifffile.TiffFile(io.BytesIO(data)) as file:
                places = [file.pages[0].tags[name].valueoffset for name in ("ImageWidth", "ImageLength")]
            for place in places:
                data[place : place + 4] = struct.pack("<I", huge)
            return bytes(data)
        case _:
            raise AssertionError(kind)


BOMBS = ["png", "deep.png", "jpg", "progressive.jpg", "bmp", "gif", "ppm", "tif", "deep.tif"]


@pytest.mark.parametrize("read", [read_image, read_mask, read_rgb])
@pytest.mark.parametrize("kind", BOMBS)
def test_a_picture_that_claims_more_than_it_can_hold(
    tmp_path: Path, kind: str, read: Callable[[Path], object]
) -> None:
    import tracemalloc

    path = tmp_path / f"bomb.{kind.rpartition('.')[2]}"
    path.write_bytes(bomb(kind))
    tracemalloc.start()
    with pytest.raises(UnreadableError, match=r"bomb|claims to hold"):
        read(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50e6


def test_a_png_unpacks_no_further_than_its_size(tmp_path: Path) -> None:
    """Of 200 MB of zeros in 200 kB hardly more than an 8 x 8 picture has is unpacked, and then it is refused."""
    import tracemalloc

    path = tmp_path / "a.png"
    path.write_bytes(deep_png(8, 8, bytes(200_000_000)))
    tracemalloc.start()
    with pytest.raises(UnreadableError, match="the length of its rows is wrong"):
        read_image(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20e6


def test_a_file_of_another_kind_is_no_picture(tmp_path: Path) -> None:
    """Pillow would hand PostScript to Ghostscript, whatever the file's name says."""
    path = tmp_path / "a.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    for read in (read_image, read_mask, image_size_hw):
        with pytest.raises(UnreadableError, match="not a picture"):
            read(path)


# ---- manifests and annotations


def save(root: Path, name: str, data: bytes) -> Path:
    (root / name).write_bytes(data)
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("a.png", "b.png"):
        Image.new("L", (8, 8)).save(tmp_path / name)
    return tmp_path


DEEP = b'{"path": "a.png", "label": ' + b"[" * 10_000 + b"]" * 10_000 + b"}"
TABLES = {
    "deep.jsonl": DEEP,
    "long number.jsonl": b'{"path": "a.png", "label": ' + b"1" * 10_000 + b"}",
    "half a character.jsonl": b'{"path": "a.png", "label": "\\ud800"}',
    "long field.jsonl": b'{"path": "a.png", "label": "' + b"x" * 5_000_000 + b'"}',
    "no object.jsonl": b"[1, 2]",
    "long field.csv": b"path,label\na.png," + b"x" * 100_000_000 + b"\nb.png,y\n",
    "spaces.csv": b"path,label\na.png," + b" " * 10_000_000 + b"\nb.png,y\n",
    "long header.csv": b"path,label," + b"x" * 10_000_000 + b"\na.png,x,1\n",
    "quoted.csv": b'path,label\n"a.png' + b"x" * 10_000_000 + b"\nb.png,y\n",
    "NUL.csv": b"path,label\na.png\0,x\nb.png,y\n",
    "only NUL.csv": b"\0" * 1000,
    "not UTF-8.csv": b"path,label\na\xff.png,x\n",
    "returns.csv": b"path,label\ra.png,\r\r\rb.png,y",
    "empty.csv": b"",
    "empty.jsonl": b"",
    "empty.parquet": b"",
    "no.parquet": b"PAR1" + b"\xff" * 100 + b"PAR1",
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", TABLES)
def test_a_hostile_table_ends_in_a_message(root: Path, name: str) -> None:
    save(root, f"manifest{Path(name).suffix}", TABLES[name])
    with pytest.raises(LoupeError, match="manifest") as error:
        find_labels(root)
    assert len(str(error.value)) < 2000


@pytest.mark.timeout(60)
def test_a_parquet_file_of_a_billion_rows(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow.parquet import write_table

    same = pyarrow.DictionaryArray.from_arrays(np.zeros(20_000_000, np.int8), ["a.png"])
    write_table(pyarrow.table({"path": same, "label": same}), root / "manifest.parquet")
    with pytest.raises(LoupeError, match="claims 20000000 rows"):
        find_labels(root)


@pytest.mark.parametrize("size", [2**33, 2**60, 2**70])
@pytest.mark.parametrize("kind", [b"x", b"L"])
def test_a_header_of_a_shard_that_claims_a_terabyte(tmp_path: Path, kind: bytes, size: int) -> None:
    """tarfile takes the memory for a long name as the header says, before it reads."""
    info = tarfile.TarInfo("a.png")
    info.type = kind
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\x80" + size.to_bytes(11, "big")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header[:512])
    (tmp_path / "train-0.tar").write_bytes(bytes(header) + bytes(2048))
    with pytest.raises(LoupeError, match=f"a member of the size {size}"):
        find_labels(tmp_path)


GOOD_COCO: dict[str, object] = {
    "categories": [{"id": 1, "name": "x"}],
    "images": [{"id": 1, "file_name": "a.png", "height": 8, "width": 8}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 4, 4], "segmentation": [[0, 0, 4, 0, 4, 4]]}
    ],
}


@pytest.mark.parametrize(
    "value", [None, -1, 1.5, 10**400, True, "x", [], {}, [[]], float("nan"), 1e308, "\ud800", "a\0"]
)
@pytest.mark.parametrize(
    "key", ["id", "name", "file_name", "height", "width", "image_id", "category_id", "bbox", "segmentation"]
)
def test_a_value_of_coco_that_is_another(root: Path, key: str, value: object) -> None:
    content = json.loads(json.dumps(GOOD_COCO))
    for entry in (entry for entries in content.values() for entry in entries):
        if key in entry:
            entry[key] = value
    save(root, "annotations.json", json.dumps(content).encode())
    for read in (boxes_at, drawn_masks):
        outcome(read, root)


def boxes_at(root: Path) -> None:
    find_boxes(root)


def drawn_masks(root: Path) -> None:
    found = find_masks(root)
    for entry in found.samples.columns["mask"]:
        found.reader.read(entry)


def outcome(read: Callable[[Path], object], root: Path) -> str:
    """What the reader said; "" for nothing. Whatever else it raises fails the test."""
    try:
        read(root)
    except LoupeError as error:
        return str(error) or "an error without a message"
    return ""


@pytest.mark.parametrize(
    "text", [b"[" * 100_000, b"{" + b'"a":{' * 50_000, b"nul", b"\xff\xfe", b"1" * 10_000]
)
def test_json_that_is_none(root: Path, text: bytes) -> None:
    assert outcome(boxes_at, save(root, "annotations.json", text))


# ---- any bytes at all: a good file, changed at random


@cache
def good_files() -> dict[str, bytes]:
    pictures = {f"x.{kind}": encoded(kind) for kind in FORMATS}
    deep = {"d.png": encoded("deep.png"), "p.png": encoded("palette.png"), "d.tif": encoded("deep.tif")}
    return {**pictures, **deep}


@cache
def good_annotations() -> dict[str, bytes]:
    shard = io.BytesIO()
    with tarfile.open(fileobj=shard, mode="w") as archive:
        for number in range(4):
            for name, content in (
                (f"{number}.png", good_files()["p.png"]),
                (f"{number}.cls", b"%d" % (number % 2)),
            ):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    lines = [
        json.dumps({"path": f"{name}.png", "label": name, "weight": 0.5}).encode() for name in "abab"[:2]
    ]
    files = {
        "manifest.csv": b"path,label,split,group,weight\na.png,x,train,1,1.5\nb.png,y,val,2,2\n",
        "manifest.jsonl": b"\n".join(lines),
        "boxes/manifest.csv": b"path,x1,y1,x2,y2\na.png,0,0,4,4\nb.png,,,,\n",
        "masks/manifest.csv": b"path,mask\na.png,b.png\nb.png,a.png\n",
        "annotations.json": json.dumps(GOOD_COCO).encode(),
        "shard/train-0.tar": shard.getvalue(),
    }
    try:
        import pyarrow
        from pyarrow.parquet import write_table
    except ImportError:
        return files
    stream = io.BytesIO()
    write_table(pyarrow.table({"path": ["a.png", "b.png"], "label": ["x", "y"]}), stream)
    return {**files, "manifest.parquet": stream.getvalue()}


NASTY = [
    b"\0", b"\xff", b"../", b"/etc/passwd", b"nan", b"inf", b"-1", b"1e999", b"9" * 400, b"\r", b"\n", b'"', b",", b"{",
    b"[", b"\xf0\x9f\x92\xa3", b"\xed\xa0\x80", b"null", b"!0+5!", b"://", b"{stem}", b"\\",
]  # fmt: skip

CHANGE = st.tuples(
    st.floats(0, 1, exclude_max=True),
    st.sampled_from(["flip", "cut", "drop", "double", "put"]),
    st.integers(0, 2**16),
)


def changed(data: bytes, changes: list[tuple[float, str, int]]) -> bytes:
    for share, kind, number in changes:
        place = int(share * len(data))
        match kind:
            case "flip":
                data = data[:place] + bytes([number % 256]) + data[place + 1 :]
            case "cut":
                data = data[:place]
            case "drop":
                data = data[:place] + data[place + 1 + number % 16 :]
            case "double":
                data = data[:place] + data[place : place + number % 64] * 2 + data[place + number % 64 :]
            case "put":
                data = data[:place] + NASTY[number % len(NASTY)] + data[place:]
            case _:
                raise AssertionError(kind)
    return data


def read_changed_picture(folder: Path, name: str, changes: list[tuple[float, str, int]]) -> None:
    path = folder / name
    path.write_bytes(changed(good_files()[name], changes))
    for read in (read_image, read_mask, read_rgb, image_size_hw):
        told = outcome(read, path)
        assert not told or str(path) in told


def read_changed_annotations(folder: Path, name: str, changes: list[tuple[float, str, int]]) -> None:
    """Sets a datamodule up, and reads every sample: what comes is a LoupeError, or nothing."""
    root = folder / name.replace(".", "-")
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    place = (root / name).parent
    for picture in ("a.png", "b.png"):
        if not name.startswith("shard"):
            (place / picture).write_bytes(good_files()["p.png"])
    (root / name).write_bytes(changed(good_annotations()[name], changes))
    kinds: dict[str, list[type[LoupeDataModule]]] = {
        "annotations.json": [CropDataModule, SegmentationDataModule],
        "boxes/manifest.csv": [CropDataModule],
        "masks/manifest.csv": [SegmentationDataModule, CropDataModule],
    }
    for kind in kinds.get(name, [ClassificationDataModule]):
        for collecting in (False, True):
            data = kind(str(place), image_size=8, loader=Loader(num_workers=0, batch_size=2))
            data.problems.collecting = collecting
            with suppress(LoupeError):
                data.setup("fit")
                for loader in (data.train_dataloader(), data.val_dataloader()):
                    for _ in loader:
                        pass


PICTURE = (st.sampled_from(sorted(good_files())), st.lists(CHANGE, min_size=1, max_size=4))
ANNOTATIONS = (st.sampled_from(sorted(good_annotations())), st.lists(CHANGE, min_size=1, max_size=4))


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow warns of what it then refuses
@fuzz(150)
@given(*PICTURE)
def test_pictures_changed_at_random(tmp_path: Path, name: str, changes: list[tuple[float, str, int]]) -> None:
    read_changed_picture(tmp_path, name, changes)


@fuzz(60)
@given(*ANNOTATIONS)
def test_annotations_changed_at_random(
    tmp_path: Path, name: str, changes: list[tuple[float, str, int]]
) -> None:
    read_changed_annotations(tmp_path, name, changes)


@pytest.mark.soak
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow warns of what it then refuses
@fuzz(4000)
@given(*PICTURE)
def test_many_pictures_changed_at_random(
    tmp_path: Path, name: str, changes: list[tuple[float, str, int]]
) -> None:
    read_changed_picture(tmp_path, name, changes)


@pytest.mark.soak
@fuzz(2000)
@given(*ANNOTATIONS)
def test_many_annotations_changed_at_random(
    tmp_path: Path, name: str, changes: list[tuple[float, str, int]]
) -> None:
    read_changed_annotations(tmp_path, name, changes)
