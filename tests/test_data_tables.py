"""Manifests in CSV, JSON lines and Parquet: the same rows for every task, and mistakes named by their place."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from datamodules import ClassificationDataModule, CropDataModule, SegmentationDataModule
from datamodules.formats.tables import TABLE_SUFFIXES, read_table
from errors import LoupeError

pyarrow = pytest.importorskip("pyarrow")
every_kind = pytest.mark.parametrize("suffix", TABLE_SUFFIXES)


def write(file: Path, rows: list[dict[str, Any]]) -> Path:
    match file.suffix:
        case ".csv":
            header = list(dict.fromkeys(name for row in rows for name in row))
            lines = [["" if row.get(name) is None else str(row[name]) for name in header] for row in rows]
            file.write_text("\n".join(",".join(line) for line in [header, *lines]), encoding="utf-8")
        case ".jsonl":
            file.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n", encoding="utf-8")
        case _:
            from pyarrow.parquet import write_table

            write_table(pyarrow.Table.from_pylist(rows), file)
    return file


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for i in range(20):
        Image.new("RGB", (10, 10)).save(tmp_path / f"{i}.png")
        Image.new("L", (10, 10), i % 2).save(tmp_path / f"mask_{i}.png")
    return tmp_path


@every_kind
def test_every_task_reads_every_kind(pictures: Path, suffix: str) -> None:
    where = [{"path": f"{i}.png", "Split": "val" if i < 5 else "train"} for i in range(20)]
    manifest = pictures / f"manifest{suffix}"
    write(manifest, [{**row, "label": i % 3} for i, row in enumerate(where)])
    labels = ClassificationDataModule(str(pictures))
    labels.setup("fit")
    assert labels.class_names == ["0", "1", "2"]
    assert [len(labels.samples[part]) for part in ("train", "val", "test")] == [15, 5, 0]

    write(manifest, [{**row, "mask": f"mask_{i}.png"} for i, row in enumerate(where)])
    masks = SegmentationDataModule(str(manifest))
    masks.setup("fit")
    assert masks.num_classes == 2

    box = {"x1": 1, "y1": 2.5, "x2": 9, "y2": 10}
    nothing: dict[str, Any] = dict.fromkeys(box)
    write(manifest, [{**row, **(nothing if i == 7 else box)} for i, row in enumerate(where)])
    boxes = CropDataModule(str(pictures))
    boxes.setup("fit")
    train = boxes.samples["train"]
    assert train.columns["y1"][train.names.index("7.png")] == ""
    assert float(train.columns["y1"][0]) == 2.5


@every_kind
def test_rows_are_the_same_text(tmp_path: Path, suffix: str) -> None:
    rows = [{" Path": "ä.png", "n": 3, "x": 0.25}, {" Path": "b.png", "n": None, "x": 2.0}]
    found = read_table(write(tmp_path / f"t{suffix}", rows), known={"path"})
    assert list(found.columns) == ["path", "n", "x"]
    assert [
        dict(zip(found.columns, row, strict=True)) for row in zip(*found.columns.values(), strict=True)
    ] == [
        {"path": "ä.png", "n": "3", "x": "0.25"},
        {"path": "b.png", "n": "", "x": "2.0"},
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"path": "a"}\n{"path": ', "line 2 is no JSON"),
        ("a.jsonl", b'["a"]', "line 1 is no object like"),
        ("a.jsonl", b'{"path": ["a"]}', "line 1: the column path holds a list"),
        ("a.jsonl", b"\xff\xfe", "not a file of JSON lines in UTF-8"),
        ("a.jsonl", b'{"path": "a", "Path ": "b"}', "the column path more than once"),
        ("a.parquet", b"nonsense", "not a Parquet file"),
        ("a.csv", b"path,label\na.png,x,y", "line 2 has more fields than the header"),
        ("a.csv", b"path,path\na.png,x", "the column path more than once"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(LoupeError, match=message):
        read_table(tmp_path / name, known={"path"})


@every_kind
def test_an_empty_entry_is_told_by_its_place(pictures: Path, suffix: str) -> None:
    rows = [{"path": "0.png", "label": "a"}, {"path": "1.png", "label": None}]
    file = write(pictures / f"m{suffix}", rows)
    place = {".csv": "line 3", ".jsonl": "line 2", ".parquet": "row 2"}[suffix]
    with pytest.raises(LoupeError, match=f"{place}: the column label is empty"):
        ClassificationDataModule(str(file)).setup("fit")


def test_two_manifests_are_refused(pictures: Path) -> None:
    for suffix in (".csv", ".jsonl"):
        write(pictures / f"manifest{suffix}", [{"path": "0.png", "label": "a"}])
    with pytest.raises(LoupeError, match=r"has manifest\.csv and manifest\.jsonl; give one"):
        ClassificationDataModule(str(pictures)).setup("fit")


def test_parquet_without_pyarrow_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "m.parquet").write_bytes(b"")
    with pytest.raises(LoupeError, match=r"pip install 'loupe-vision\[parquet\]'"):
        read_table(tmp_path / "m.parquet", known=set())


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_lists_of_labels_are_several_labels(pictures: Path, suffix: str) -> None:
    rows = [{"path": f"{i}.png", "labels": [["a"], ["a", "b"], []][i % 3]} for i in range(20)]
    data = ClassificationDataModule(str(write(pictures / f"manifest{suffix}", rows)))
    data.setup("fit")
    assert data.multi_label and data.class_names == ["a", "b"]
    assert set(data.samples["train"].columns["labels"]) == {"a", "a;b", ""}
