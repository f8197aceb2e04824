"""`train.py check` on real data sets: what is wrong with them is found, and nothing else."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Outcome
from tests.tasks import CLASSIFICATION, CROPPING, SEGMENTATION, Task

Loupe = Callable[..., Outcome]
pytestmark = pytest.mark.real_data


def run_check(loupe: Loupe, task: Task, root: Path, *flags: str) -> tuple[int, dict[str, Any]]:
    outcome = loupe("check", *task.words, f"--data.root={root}", "--training.monitor=val/loss", *flags)
    assert outcome.code in (0, 1), outcome.err
    report = json.loads((Path("runs") / task.config / "check" / "check.json").read_text(encoding="utf-8"))
    return outcome.code, {"kinds": {f["kind"]: f for f in report["findings"]}, **report}


def test_trashnet_has_three_pictures_with_two_labels(loupe: Loupe, real_data: Path) -> None:
    code, report = run_check(loupe, CLASSIFICATION, real_data / "trashnet")
    assert code == 1
    errors = {kind for kind, finding in report["kinds"].items() if finding["severity"] == "error"}
    conflicts = report["kinds"]["same picture, other annotation"]
    assert conflicts["count"] == 3
    twins = [conflicts["files"][place : place + 2] for place in (0, 2, 4)]
    assert all(Path(one).parent != Path(other).parent for one, other in twins)
    assert errors <= {"same picture, other annotation", "same picture in two parts"}
    assert sum(report["parts"].values()) == 2527
    assert report["sizes_px"]["width"]["median"] > report["sizes_px"]["height"]["median"]
    assert "2527 of 2527 pictures decoded" in " ".join(report["steps"])
    page = (Path("runs") / CLASSIFICATION.config / "check/check.html").read_text()
    assert page.count('src="data:image/jpeg') >= 6


def test_of_the_edge_cases_the_truncated_one_is_found(loupe: Loupe, real_data: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    pictures = sorted((real_data / "edge_cases").iterdir())
    for number, path in enumerate(pictures):
        for part in ("train", "val"):
            folder = root / part / "ab"[number % 2]
            folder.mkdir(parents=True, exist_ok=True)
            if part == "train" or number < 4:
                shutil.copyfile(path, folder / path.name)
    (root / "val/a/exif6_IMG_5874.JPG").unlink()
    code, report = run_check(loupe, CLASSIFICATION, root)
    bad = report["kinds"]["unreadable picture"]
    assert code == 1
    assert [Path(file).name for file in bad["files"]] == ["truncated.jpg"] * bad["count"] and bad[
        "count"
    ] >= 1
    read = sum(report["parts"].values()) - bad["count"]
    assert f"{read} of {sum(report['parts'].values())} pictures decoded" in " ".join(report["steps"])
    assert "same picture in two parts" in report["kinds"]


def test_nuclei_are_sound(loupe: Loupe, real_data: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True)
        for path in sorted((real_data / "dsb2018" / kind).iterdir())[:660:22]:
            shutil.copyfile(path, root / kind / path.name)
    code, report = run_check(loupe, SEGMENTATION, root)
    assert code == 0 and set(report["kinds"]) <= {"classes out of balance"}
    assert sum(report["parts"].values()) == 30
    assert set(report["classes"]) == {"background", "foreground"}


def test_blood_cells_are_sound(loupe: Loupe, real_data: Path, tmp_path: Path) -> None:
    source = real_data / "bccd"
    rows = ["path,x1,y1,x2,y2"]
    boxed = set()
    with (source / "boxes_wbc.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            boxed.add(row["file"])
            rows.append(
                ",".join([str(source / "images" / row["file"]), *(row[k] for k in ("x1", "y1", "x2", "y2"))])
            )
    empty = sorted(path for path in (source / "images").iterdir() if path.name not in boxed)
    assert len(empty) == 6
    rows += [f"{path},,,," for path in empty]
    root = tmp_path / "data"
    root.mkdir()
    (root / "manifest.csv").write_text("\n".join(rows))
    code, report = run_check(loupe, CROPPING, root, "--data.read.outside_root=true")
    assert code == 0, report["kinds"]
    assert sum(report["parts"].values()) == 364
    assert {finding["severity"] for finding in report["findings"]} <= {"warning"}
