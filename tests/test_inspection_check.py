"""`train.py check`: what is wrong with a data set is found, all of it in one run, and named by its files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Outcome
from tests.tasks import CLASSIFICATION, CROPPING, SEGMENTATION, TASKS, Task, draw, write_task

Loupe = Callable[..., Outcome]
Report = dict[str, Any]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data"


def run_check(loupe: Loupe, task: Task, root: Path, *flags: str) -> tuple[int, Report]:
    outcome = loupe("check", *task.words, f"--data.root={root}", *flags)
    assert "fast_dev_run" not in outcome.err, "that the trial is a short run is nobody's business"
    assert outcome.code in (0, 1), outcome.err
    report = json.loads((Path("runs") / task.config / "check" / "check.json").read_text(encoding="utf-8"))
    assert report["sound"] == (outcome.code == 0)
    return outcome.code, report


def by_kind(report: Report) -> dict[str, Any]:
    found = {finding["kind"]: finding for finding in report["findings"]}
    assert len(found) == len(report["findings"])
    return found


def names(finding: Report) -> list[str]:
    return [Path(file).name for file in finding["files"]]


def cut(path: Path, to: int | None = None) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2 if to is None else to])


def save(path: Path, array: np.ndarray, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def photo(number: int, size_hw: tuple[int, int] = (96, 128)) -> np.ndarray:
    """A picture with shapes as large as photos have them; another for each number."""
    rng = np.random.default_rng(1000 + number)
    small = rng.integers(0, 200, (5, 6, 1)) + rng.integers(0, 40, (5, 6, 3))
    return np.array(Image.fromarray(small.astype(np.uint8)).resize(size_hw[::-1], Image.Resampling.BICUBIC))


def write_labels(root: Path, rows: list[tuple[str, str, str]], header: str = "path,label,split") -> None:
    """A manifest, and a picture for each row that has none yet."""
    for number, (path, *_) in enumerate(rows):
        if not (root / path).exists():
            save(root / path, photo(number))
    (root / "manifest.csv").write_text("\n".join([header, *map(",".join, rows)]) + "\n")


def labels(train: int = 6, val: int = 4) -> list[tuple[str, str, str]]:
    return [(f"t{i}.png", "ab"[i % 2], "train") for i in range(train)] + [
        (f"v{i}.png", "ab"[i % 2], "val") for i in range(val)
    ]


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_sound_data_pass_and_leave_a_report_alone(loupe: Loupe, task: Task, root: Path) -> None:
    write_task(task.name, root)
    code, report = run_check(loupe, task, root)
    assert code == 0 and report["findings"] == []
    assert report["parts"] == {"train": 8, "val": 4, "test": 4}
    assert report["sizes_px"] == {side: {"min": 32, "median": 32, "max": 32} for side in ("width", "height")}
    assert len(report["steps"]) == 4 and "one batch" in report["steps"][-1]
    left = sorted(path.relative_to("runs").as_posix() for path in Path("runs").rglob("*") if path.is_file())
    assert left == [f"{task.config}/check/check.html", f"{task.config}/check/check.json"]
    assert "raining can begin" in (Path("runs") / task.config / "check" / "check.html").read_text()
    if task is CLASSIFICATION:
        assert report["classes"] == {name: {"train": 4, "val": 2, "test": 2} for name in ("left", "right")}


def test_all_damage_of_pictures_and_masks_is_found_in_one_run(loupe: Loupe, root: Path) -> None:
    write_task("segmentation", root)
    cut(root / "train/images/0.png")
    cut(root / "val/images/1.png", 0)
    cut(root / "train/masks/2.png")
    cut(root / "test/masks/2.png", 0)
    (root / "train/masks/3.png").unlink()
    save(root / "val/masks/extra.png", np.zeros((32, 32), np.uint8))
    save(root / "train/masks/4.png", np.zeros((30, 31), np.uint8))
    save(root / "test/masks/0.png", np.zeros((32, 33), np.uint8))
    code, report = run_check(loupe, SEGMENTATION, root)
    found = by_kind(report)
    assert code == 1
    assert {finding["severity"] for finding in found.values()} == {"error"}
    assert found["unreadable picture"]["files"] == [
        str(root / "train/images/0.png"),
        str(root / "val/images/1.png"),
    ]
    assert "empty file" in found["unreadable picture"]["messages"][1]
    assert names(found["unreadable mask"]) == ["2.png"] * 4
    assert str(root / "train/masks/2.png") in found["unreadable mask"]["messages"][0]
    assert f"{root / 'test/masks/2.png'} is an empty file" in found["unreadable mask"]["messages"][1]
    assert found["picture without mask"]["files"] == [str(root / "train/images/3.png")]
    assert found["mask without picture"]["files"] == [str(root / "val/masks/extra.png")]
    sizes = found["mask of another size"]
    assert sizes["files"][1::2] == [str(root / "train/masks/4.png"), str(root / "test/masks/0.png")]
    assert "4.png is 31x30 and its picture" in sizes["messages"][0] and "is 32x32" in sizes["messages"][0]
    assert len(found) == 5
    page = Path("runs/seg_unet/check/check.html").read_text()
    assert page.count("cannot be read</div>") == 4 and page.count('src="data:image/jpeg') == 2 + 4 + 2


def test_what_is_skipped_is_a_warning(loupe: Loupe, root: Path) -> None:
    write_task("segmentation", root)
    cut(root / "train/images/0.png")
    cut(root / "val/masks/1.png")
    code, report = run_check(loupe, SEGMENTATION, root, "--data.read.on_error=skip")
    found = by_kind(report)
    assert code == 0
    assert {kind: names(finding) for kind, finding in found.items() if finding["files"]} == {
        "unreadable picture": ["0.png"],
        "unreadable mask": ["1.png"],
    }
    assert {finding["severity"] for finding in found.values()} == {"warning"}
    assert run_check(loupe, SEGMENTATION, root)[0] == 1


def test_mask_values_that_are_no_class_are_counted(loupe: Loupe, root: Path) -> None:
    write_task("segmentation", root)
    mask = np.array(Image.open(root / "train/masks/5.png"))
    mask[0, :10] = 2
    save(root / "train/masks/5.png", mask)
    cut(root / "train/images/2.png")
    code, report = run_check(loupe, SEGMENTATION, root, "--data.read.class_names=[ground, thing]")
    found = by_kind(report)
    (message,) = found["mask values that are no class"]["messages"]
    assert code == 1 and names(found["mask values that are no class"])[0] == "5.png"
    assert message.startswith(f"masks hold class 2 (10 pixels), as in {root / 'train/masks/5.png'}")
    assert names(found["unreadable picture"]) == ["2.png"], "one problem does not hide the others"


def test_unknown_colours_are_named_with_their_files(loupe: Loupe, root: Path) -> None:
    write_task("segmentation", root)
    for path in root.glob("*/masks/*.png"):
        mask = np.array(Image.open(path))
        colours = np.zeros((32, 32, 3), np.uint8)
        colours[mask == 1] = (0, 255, 0)
        if path in (root / "train/masks/1.png", root / "val/masks/3.png"):
            colours[0, :5] = (9, 8, 7)
        save(path, colours)
    colours = "--data.read.class_colors={ground: [0, 0, 0], thing: [0, 255, 0]}"
    code, report = run_check(loupe, SEGMENTATION, root, colours)
    strange = by_kind(report)["mask values that are no class"]
    assert code == 1
    assert strange["files"][1::2] == [str(root / "train/masks/1.png"), str(root / "val/masks/3.png")]
    assert all("[9, 8, 7] (5 pixels)" in message for message in strange["messages"])


def test_all_bad_boxes_are_found_in_one_run(loupe: Loupe, root: Path) -> None:
    write_task("cropping", root)
    text = (root / "manifest.csv").read_text().splitlines()
    for row, entry in enumerate(["0,0,33,9", "9,4,3,20", "1,2,,4", "a,b,c,d", "-1,2,9,9"], 1):
        text[row] = f"train_{row - 1}.png,{entry},train"
    text.append("gone.png,1,1,9,9,train")
    (root / "manifest.csv").write_text("\n".join(text))
    code, report = run_check(loupe, CROPPING, root)
    found = by_kind(report)
    assert code == 1
    assert {kind: names(finding) for kind, finding in found.items()} == {
        "missing file": ["gone.png"],
        "inverted box": ["train_1.png"],
        "incomplete box": ["train_2.png"],
        "box without numbers": ["train_3.png"],
        "box outside the picture": ["train_0.png", "train_4.png"],
    }
    assert "0, 0, 33, 9" in found["box outside the picture"]["messages"][0]


def test_a_manifest_is_read_to_its_end(loupe: Loupe, root: Path) -> None:
    rows = [*labels(), ("t0.png", "a", "train"), ("t9.png", "b", "train"), ("t10.png", "", "train")]
    write_labels(root, [*rows, ("t11.png", "a", "holdout")])
    (root / "t9.png").unlink()
    (root / "t10.png").unlink()
    code, report = run_check(loupe, CLASSIFICATION, root)
    found = by_kind(report)
    assert code == 1
    assert set(found) == {"listed twice", "missing file", "empty entry", "unknown part"}
    assert "t0.png" in found["listed twice"]["messages"][0]
    assert names(found["missing file"]) == ["t9.png"]
    assert "holdout" in found["unknown part"]["messages"][0]


def test_a_group_in_two_parts_is_an_error(loupe: Loupe, root: Path) -> None:
    rows = [(path, label, f"{part},g{i if i < 9 else 1}") for i, (path, label, part) in enumerate(labels())]
    write_labels(root, rows, header="path,label,split,group")
    code, report = run_check(loupe, CLASSIFICATION, root)
    torn = by_kind(report)["group in two parts"]
    assert code == 1
    assert names(torn) == ["t1.png", "v3.png"] and "g1 (train, val)" in torn["messages"][0]


def test_settings_that_cannot_work_are_found(loupe: Loupe, root: Path) -> None:
    write_task("classification", root)
    code, report = run_check(
        loupe,
        CLASSIFICATION,
        root,
        "--training.monitor=val/acuracy",
    )
    found = by_kind(report)
    assert code == 1 and set(found) == {"setting"}, "told once, not once more by the batch"
    assert "val/accuracy" in found["setting"]["messages"][0]
    loss = "--training.loss={type: categorical_crossentropy, class_weight: [1.0, 2.0, 3.0]}"
    for flag, word in ((loss, "class_weight"), ("--data.augment.foreground=0.5", "augment.crop")):
        code, report = run_check(loupe, CLASSIFICATION, root, flag)
        (message,) = by_kind(report)["one batch fails"]["messages"]
        assert code == 1 and word in message


Damage = Callable[[Path], object]
DAMAGES: dict[str, tuple[Task, Damage]] = {
    "truncated picture": (CLASSIFICATION, lambda root: cut(root / "train/left/0.png")),
    "no mask": (SEGMENTATION, lambda root: (root / "train/masks/3.png").unlink()),
    "size": (SEGMENTATION, lambda root: save(root / "val/masks/1.png", np.zeros((9, 9), np.uint8))),
    "truncated mask": (SEGMENTATION, lambda root: cut(root / "train/masks/1.png")),
    "values": (SEGMENTATION, lambda root: save(root / "val/masks/1.png", np.full((32, 32), 9, np.uint8))),
    "gone": (CROPPING, lambda root: (root / "train_1.png").unlink()),
    "beside": (CLASSIFICATION, lambda root: save(root / "train/x.png", draw(77)[0])),
}


@pytest.mark.parametrize(("task", "damage"), DAMAGES.values(), ids=DAMAGES)
def test_fit_refuses_in_the_same_words(loupe: Loupe, task: Task, damage: Damage, root: Path) -> None:
    write_task(task.name, root)
    damage(root)
    code, report = run_check(loupe, task, root)
    assert code == 1
    outcome = loupe("fit", *task.words, f"--data.root={root}", "--training.tensorboard=false")
    assert outcome.code == 2
    assert report["findings"][0]["messages"][0] in outcome.err
