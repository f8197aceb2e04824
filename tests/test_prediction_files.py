"""The files of predictions: names, journal, tables, run lengths, probability maps, drawings, and how little is held."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import threading
import time
import tracemalloc
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as judge

from errors import LoupeError
from figures import Answer, draw_answer
from predictions import Background, Inputs, Journal, JournalFile, Predictions, Record, Task, output_names
from predictions.coco import box_annotations, mask_annotations, run_lengths, write_coco
from predictions.overlays import answer_of
from predictions.probability_maps import write_probability_map
from predictions.tables import write_table

ROOT = Path(__file__).resolve().parent.parent


def record(path: str, **others: Any) -> Record:
    given = {"size_bytes": 3, "mtime_ns": 5, "size_hw_px": (4, 6), "name": "n", "run": 1, "identity": "i"}
    return Record(path, **{**given, "row": {"label": "cat", "confidence": 0.5}, **others})


# --- names ---


@pytest.mark.parametrize(
    ("paths", "root", "names"),
    [
        (["in/a/x.png", "in/y.v2.jpg"], "in", ["a/x", "y.v2"]),
        (["in/x.png", "in/x.JPG", "in/z.png"], "in", ["x.png", "x.JPG", "z"]),
        (["in/x.png", "in/X.jpg"], "in", ["x.png", "X.jpg"]),  # one file where letter case does not count
        (["in/x.png.png", "in/x.png", "in/x.jpg"], "in", ["x.png", "x.png_2", "x.jpg"]),
        (["/elsewhere/../x.png", "in/x.png"], "in", ["_/elsewhere/_/x", "x"]),
        (["in/x.png/y.jpg", "in/x.jpg"], "in", ["x.png_/y", "x"]),  # masks/x.png is a file
        (["x.png"], "", ["x"]),
        (["in/.hidden.png"], "in", [".hidden"]),
    ],
)
def test_names(paths: list[str], root: str, names: list[str]) -> None:
    assert list(output_names(paths, root)) == names


def test_a_name_that_was_given_stays() -> None:
    before = output_names(["in/x.png", "in/y.png"], "in")
    assert list(before) == ["x", "y"]
    now = output_names(["in/x.jpg", "in/x.png", "in/y.png"], "in", kept=[(1, "x")])
    assert list(now) == ["x.jpg", "x", "y"]
    later = output_names(["in/x.jpg.png", "in/x.jpg", "in/x.png"], "in", kept=[(1, "x.jpg"), (2, "x")])
    assert list(later) == ["x.jpg_2", "x.jpg", "x"] or later[0] == "x.jpg.png"
    assert len(set(later)) == 3


def test_a_long_name_is_cut_and_stays_its_own() -> None:
    names = output_names([f"in/{'é' * 120}{n}.png" for n in range(3)], "in")
    assert len(set(names)) == 3 and all(len(name.encode()) <= 204 for name in names)


parts = st.sampled_from(["a", "b", "..", "x.png", "X.png", "a:b", "a_b", "x"])


@given(
    paths=st.lists(
        st.lists(parts, min_size=1, max_size=3).map("/".join), min_size=1, max_size=7, unique=True
    ),
    keep=st.integers(0, 127),
)
@settings(deadline=None)
def test_names_are_unique_safe_and_kept_on_going_on(paths: list[str], keep: int) -> None:
    whole = list(output_names(paths, "a"))
    assert len({name.casefold() for name in whole}) == len(paths), "also where letter case is nothing"
    assert all(not name.startswith("/") and ".." not in name.split("/") for name in whole)
    kept = [(i, name) for i, name in enumerate(whole) if keep >> i & 1]
    again = output_names(paths, "a", kept)
    assert all(again[i] == name for i, name in kept) and len(set(again)) == len(paths)
    folders = {
        f"{name}.png".rsplit("/", depth)[0] for name in whole for depth in range(1, name.count("/") + 1)
    }
    assert not folders & {f"{name}.png" for name in whole}, "no file stands where a folder must"


# --- journal ---


def test_a_torn_line_is_passed_over_and_the_next_run_begins_a_new_one(tmp_path: Path) -> None:
    inputs = Inputs(["a.png", "b.png", "c.png"])
    file = tmp_path / "journal" / "0.jsonl"
    first = JournalFile(file)
    first.append([record("a.png"), record("b.png")])
    first.close()
    file.write_bytes(file.read_bytes()[:-20])  # killed in the middle of a line
    assert list(Journal(file.parent, inputs, "i").read().has) == [True, False, False]
    second = JournalFile(file)
    second.append([record("c.png", run=2)])
    second.close()
    journal = Journal(file.parent, inputs, "i").read()
    assert list(journal.has) == [True, False, True] and journal[2] == record("c.png", run=2)
    journal.close()


def test_the_latest_record_of_an_input_counts(tmp_path: Path) -> None:
    inputs = Inputs(["a.png", "b.png"])
    for number, (run, size) in enumerate(((3, 30), (2, 20))):
        part = JournalFile(tmp_path / f"{number}.jsonl")
        part.append(
            [record("a.png", run=run, size_bytes=size), record("a.png", run=9, identity="other"), record("z")]
        )
        part.close()
    journal = Journal(tmp_path, inputs, "i").read()
    assert journal[0].size_bytes == 30 and len(journal) == 1
    only = Journal(tmp_path, inputs, "i").read(run=2)
    assert only[0].size_bytes == 20 and not only.repeated
    part = JournalFile(tmp_path / "1.jsonl")
    part.append([record("a.png", run=2)])
    part.close()
    assert Journal(tmp_path, inputs, "i").read(run=2).repeated == [0]
    journal.close()
    only.close()


def test_done_is_what_has_not_changed_and_has_its_files(tmp_path: Path) -> None:
    paths: list[str] = []
    part = JournalFile(tmp_path / "journal" / "0.jsonl")
    (tmp_path / "masks").mkdir()
    for number in range(6):
        path = tmp_path / f"{number}.png"
        path.write_bytes(b"abc")
        paths.append(str(path))
        state = path.stat()
        time_ns = None if number == 5 else state.st_mtime_ns
        part.append(
            [
                record(
                    str(path),
                    size_bytes=3,
                    mtime_ns=time_ns,
                    files={"mask": f"masks/{number}.png", "crop": ""},
                )
            ]
        )
        (tmp_path / "masks" / f"{number}.png").touch()
    part.close()
    Path(paths[1]).write_bytes(b"abcd")
    Path(paths[2]).unlink()
    (tmp_path / "masks" / "3.png").unlink()
    Path(paths[4]).write_bytes(b"xyz")
    os.utime(paths[4], ns=(1, 1))
    journal = Journal(tmp_path / "journal", Inputs(paths), "i").read()
    assert list(journal.done(tmp_path)) == [True, False, False, False, False, False]
    journal.close()


# --- tables ---


def test_a_table_in_both_formats(tmp_path: Path) -> None:
    rows = [
        record(
            'a,"b".png', files={"mask": "masks/a.png"}, row={"label": "é", "confidence": 0.25, "count": 3}
        ),
        record("b\n.png", files={"mask": ""}, row={"label": "", "confidence": 1e-06, "count": 0}),
    ]
    write_table(tmp_path / "predictions.csv", iter(rows))
    assert (tmp_path / "predictions.csv").read_bytes() == (
        b'path,mask,label,confidence,count\n"a,""b"".png",masks/a.png,\xc3\xa9,0.25,3\n"b\n.png",,,1e-06,0\n'
    )
    write_table(tmp_path / "predictions.parquet", iter(rows))
    table = pq.read_table(tmp_path / "predictions.parquet")
    assert [str(kind) for kind in table.schema.types] == ["string", "string", "string", "double", "int64"]
    with (tmp_path / "predictions.csv").open(newline="") as file:
        as_text = list(csv.DictReader(file))
    assert [{key: str(value) for key, value in row.items()} for row in table.to_pylist()] == as_text
    assert not list(tmp_path.glob(".*"))


def test_parquet_without_pyarrow_is_told_before(monkeypatch: pytest.MonkeyPatch) -> None:
    from predictions import require_parquet

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(LoupeError, match=r"pip install 'loupe-vision\[parquet\]'"):
        require_parquet()


def journal_of(folder: Path, count: int) -> Inputs:
    """A journal of so many classified pictures, 180 bytes each and more."""
    inputs = Inputs([f"{i:06}.png" for i in range(count)])
    part = JournalFile(folder / "0.jsonl")
    line = record("000000.png", row={f"prob_{name}": 0.123456 for name in "abcdefgh"}).to_line()
    for begin in range(0, count, 1000):
        part._file.write(b"".join(line.replace(b"000000", b"%06d" % i) for i in range(begin, begin + 1000)))
    part.close()
    return inputs


def test_the_rows_are_never_in_memory(tmp_path: Path) -> None:
    held: list[int] = []
    for count in (2_000, 20_000):
        inputs = journal_of(tmp_path / str(count), count)
        tracemalloc.start()
        journal = Journal(tmp_path / str(count), inputs, "i").read()
        write_table(tmp_path / "predictions.csv", journal.records())
        held.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert len(journal) == count
        journal.close()
    size = (tmp_path / "20000" / "0.jsonl").stat().st_size
    assert size > 4_000_000 and held[1] - held[0] < 18_000 * 40, held


@pytest.mark.slow  # a hundred thousand lines are read twice
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_hundred_thousand_rows_take_no_more_memory(tmp_path: Path, suffix: str) -> None:
    """In a process of its own, of which the system says how much memory it had at most."""
    journal_of(tmp_path, 100_000)
    program = f"""
import resource, sys
from pathlib import Path
from predictions import Inputs, Journal, write_table
inputs = Inputs([f"{{i:06}}.png" for i in range(100_000)])
write_table(Path("first.parquet"), [])  # loads pyarrow
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
journal = Journal(Path("."), inputs, "i").read()
write_table(Path("predictions.{suffix}"), journal.records())
print(len(journal), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    ran = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    count, grown_kib = map(int, ran.stdout.split())
    assert count == 100_000 and (tmp_path / "0.jsonl").stat().st_size > 20_000_000
    limit_kib = 8_000 if suffix == "csv" else 60_000  # one group of 50,000 rows, whatever comes behind it
    assert grown_kib < limit_kib


# --- COCO, against pycocotools ---


@given(
    st.integers(1, 12).flatmap(
        lambda h: st.integers(1, 12).flatmap(
            lambda w: st.lists(st.booleans(), min_size=h * w, max_size=h * w).map(
                lambda bits: np.array(bits).reshape(h, w)
            )
        )
    )
)
@settings(deadline=None)
def test_run_lengths_are_those_of_pycocotools(where: np.ndarray) -> None:
    theirs = judge.encode(np.asfortranarray(where.astype(np.uint8)))["counts"]
    assert run_lengths(where) == theirs.decode()


@pytest.mark.parametrize("share", [0.0, 0.5, 0.001, 1.0])
def test_run_lengths_of_a_large_mask(share: float) -> None:
    where = np.random.default_rng(0).random((700, 900)) < share
    assert run_lengths(where) == judge.encode(np.asfortranarray(where.astype(np.uint8)))["counts"].decode()


def test_a_coco_file_gives_the_masks_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from pycocotools.coco import COCO

    rng = np.random.default_rng(0)
    masks = [
        rng.integers(0, 3, (9, 7)).astype(np.uint8),
        np.zeros((4, 5), np.uint8),
        np.full((3, 3), 2, np.uint8),
    ]
    probs = rng.random((3, 9, 7)).astype(np.float16)
    rows = [
        record(
            f"in/{n}.png",
            size_hw_px=mask.shape,
            annotations=tuple(mask_annotations(mask, 3, probs if n == 0 else None)),
        )
        for n, mask in enumerate(masks)
    ]

    def again() -> Iterator[Record]:
        return iter(rows)

    task = Task("mask", ["background", "cat", "dog"])
    write_coco(tmp_path / "coco.json", again, root="in", categories=task.categories, description="d")
    coco = COCO(str(tmp_path / "coco.json"))
    assert [entry["name"] for entry in coco.loadCats(coco.getCatIds())] == ["cat", "dog"]
    assert [entry["file_name"] for entry in coco.loadImgs(coco.getImgIds())] == ["0.png", "1.png", "2.png"]
    for number, mask in enumerate(masks, 1):
        found = np.zeros_like(mask)
        for entry in coco.loadAnns(coco.getAnnIds(imgIds=[number])):
            with warnings.catch_warnings():
                # pycocotools 2.0.11 has numpy 2 warn of its arrays; 2026-11
                warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
                shape = coco.annToMask(entry)
            found[shape == 1] = entry["category_id"]
            assert entry["area"] == shape.sum() and entry["bbox"] == list(judge.toBbox(coco.annToRLE(entry)))
        assert np.array_equal(found, mask)
    scores = [entry["score"] for entry in coco.loadAnns(coco.getAnnIds(imgIds=[1]))]
    assert scores == pytest.approx([probs[n][masks[0] == n].mean(dtype=float) for n in (1, 2)], abs=1e-6)
    assert [e["score"] for e in coco.loadAnns(coco.getAnnIds(imgIds=[3]))] == [1.0]


def test_boxes_and_what_has_no_form() -> None:
    (box,) = box_annotations([1.5, 2.0, 4.0, 10.0], 0.75)
    assert box["bbox"] == [1.5, 2.0, 2.5, 8.0] and box["area"] == 20.0 and box["score"] == 0.75
    assert box_annotations([3.0, 2.0, 3.0, 9.0], 0.1) == []
    with pytest.raises(LoupeError, match="no form"):
        Task("label", ["a"]).refuse(Predictions(coco=True))
    with pytest.raises(LoupeError, match="segmentation"):
        Task("box", ["a"]).refuse(Predictions(probability_maps=True))
    assert Task("mask", ["yes"]).categories == [(1, "yes")] == Task("box", ["yes"]).categories


# --- probability maps and drawings ---


def test_a_probability_map_is_a_plain_npz(tmp_path: Path) -> None:
    probs = np.random.default_rng(0).random((2, 5, 4)).astype(np.float32)
    write_probability_map(tmp_path / "a.npz", probs, ["no", "yes"])
    with np.load(tmp_path / "a.npz") as found:
        assert found["probs"].dtype == np.float16 and np.abs(found["probs"] - probs).max() < 5e-4
        assert found["class_names"].tolist() == ["no", "yes"]
    written = (tmp_path / "a.npz").read_bytes()
    time.sleep(0.01)
    write_probability_map(tmp_path / "a.npz", probs, ["no", "yes"])
    assert (tmp_path / "a.npz").read_bytes() == written
    write_probability_map(tmp_path / "a.npz", probs, ["yes"])
    with np.load(tmp_path / "a.npz") as found:
        assert found["class_names"].tolist() == ["not yes", "yes"]


@pytest.mark.parametrize(("height", "width"), [(32, 32), (300, 3000), (3000, 300), (2000, 2500), (1, 1)])
def test_a_drawing_is_never_larger_than_asked(height: int, width: int) -> None:
    image = np.full((height, width, 3), 128, np.uint8)
    mask = np.zeros((height, width), np.uint8)
    mask[: height // 2 + 1] = 1
    answers = (
        Answer(mask=mask),
        Answer(box=(0.0, 0.0, width / 2, height / 2), confidence=0.9),
        Answer(labels=("cat",), probs=(("cat", 0.9), ("dog", 0.1))),
    )
    for answer in answers:
        drawn = draw_answer(image, answer, ["background", "cat"], longest_px=1600)
        assert max(drawn.size) <= (1600 if height < 3000 else 1640) and drawn.mode == "RGB"


def test_a_drawing_shows_the_mask_where_it_is() -> None:
    image = np.full((600, 600, 3), 128, np.uint8)
    mask = np.zeros((600, 600), np.uint8)
    mask[100:300, 200:400] = 1
    drawn = np.asarray(draw_answer(image, Answer(mask=mask), ["background", "cat"])).astype(int)
    assert (drawn[500, 500] == 128).all(), "the picture outside"
    assert drawn[200, 300, 0] > drawn[200, 300, 1], "a red wash within"
    assert drawn[200, 200].tolist()[0] > 200 and drawn[200, 200].tolist()[1] < 100, "a full outline"


def test_answers_of_each_task() -> None:
    row = {"x1": 1.0, "y1": 2.0, "x2": 3.0, "y2": 4.0, "confidence": 0.3}
    assert answer_of({"row": row}, threshold=0.5) == Answer(
        box=(1.0, 2.0, 3.0, 4.0), confidence=0.3, found=False
    )
    row = {"label": "dog", "confidence": 0.8, "prob_cat": 0.2, "prob_dog": 0.8}
    assert answer_of({"row": row}, threshold=0.5).probs == (("dog", 0.8), ("cat", 0.2))
    row = {"labels": "a;b", "prob_a": 0.9, "prob_b": 0.7, "prob_c": 0.1}
    assert answer_of({"row": row}, threshold=0.5).labels == ("a", "b")
    assert answer_of({"row": {**row, "labels": ""}}, threshold=0.5).labels == ()


# --- threads ---


@pytest.mark.parametrize("threads", [0, 1, 4])
def test_results_come_in_order_and_few_wait(threads: int) -> None:
    running, most, lock = [0], [0], threading.Lock()
    jobs: Background[int] = Background(threads, waiting=2)

    def work(number: int) -> int:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.002 * (number % 3))
        with lock:
            running[0] -= 1
        return number

    found: list[int] = []
    for number in range(40):
        jobs.put(partial(work, number))
        assert len(jobs._jobs) <= max(1, threads) * 2
        found += jobs.results()
    found += jobs.results(all_of_them=True)
    assert found == list(range(40)) and most[0] <= max(1, threads)
    assert jobs.close() == []


def test_an_error_of_a_job_comes_up_and_the_rest_is_kept() -> None:
    jobs: Background[int] = Background(1, waiting=50)

    def work(number: int) -> int:
        if number == 3:
            raise OSError(28, "No space left on device")
        return number

    for number in range(5):
        jobs.put(partial(work, number))
    with pytest.raises(OSError, match="No space"):
        jobs.results(all_of_them=True)
    assert set(jobs.close()) >= {0, 1, 2}


def test_records_survive_json() -> None:
    whole = record(
        "é\n\udcff.png", files={"crop": ""}, row={"share_a": 0.1}, annotations=({"bbox": [1, 2, 3, 4]},)
    )
    line = whole.to_line()
    assert line.count(b"\n") == 1 and json.loads(line)["path"] == whole.path
    assert Record.of_line(line) == whole
    for bad in (line[:-1], b"\n", b"[]\n", b"{}\n", b"\xff\n", b"null\n"):
        assert Record.of_line(bad) is None


# --- lines in a pipe ---


def test_a_pipe_has_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from callbacks import prediction_lines

    clock = [100.0]
    monkeypatch.setattr(prediction_lines.time, "monotonic", lambda: clock[0])
    lines = prediction_lines.PredictionLines(1000, shown=True)
    for _ in range(100):
        clock[0] += 1
        lines.count(10)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "predict: 100 of 1000 pictures, 10 images/s, 1 min 30 s left"
    assert [line.split()[1] for line in printed] == ["100", "400", "700"]
    assert lines.images_per_s == 10 and lines.done == 1000
    prediction_lines.PredictionLines(10, shown=False).count(5)
    assert not capsys.readouterr().out
