"""Data sets of very many files, the benchmarks of scale, and the arithmetic of many GPUs."""

from __future__ import annotations

import doctest
import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import on_paper, scale_jobs
from benchmarks.scale_files import class_folders, manifest, mask_folders
from benchmarks.scale_jobs import exponent, line
from datamodules import ClassificationDataModule, Loader, SegmentationDataModule
from datamodules.draws import lot, lots
from datamodules.formats.class_folders import find_class_folders
from datamodules.formats.mask_folders import find_mask_folders
from datamodules.images import IMAGE_SUFFIXES
from datamodules.mask_classes import scan_masks
from datamodules.mask_readers import MaskReader
from datamodules.predict_paths import find_predict_paths
from datamodules.problems import Problems
from datamodules.samples import Samples, find_pictures, picture_names
from datamodules.texts import Texts
from errors import LoupeError
from inspection.duplicates import near_pairs
from inspection.pictures import SIDE, PictureFacts
from tests.tasks import ROOT


def by_pathlib(folder: Path, *, deep: bool) -> list[Path]:
    """The rule, written down with a Path for each file, which takes ten times as long."""
    return sorted(
        path
        for path in (folder.rglob("*") if deep else folder.iterdir())
        if path.suffix.lower() in IMAGE_SUFFIXES
        and not any(piece.startswith(".") for piece in path.relative_to(folder).parts)
        and path.is_file()
    )


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """Names that a list of them may get wrong."""
    root = tmp_path / "odd"
    for name in (
        "a/1.jpg", "a-b/1.jpg", "a.b/1.JPG", "a/b/c/2.png", "b.png/3.png", "b.png/.4.png", ".git/5.png", "a/.x/6.png",
        "é.png", "Z.png", "10.png", "9.png", "none", "x.txt", "x.jpg.txt", "two.dots.webp", "end.", "..png", "jpg",
    ):  # fmt: skip
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (root / "empty.png").mkdir()
    (root / "linked.png").symlink_to(root / "Z.png")
    (root / "gone.png").symlink_to(root / "nowhere.png")
    (root / "loop.png").symlink_to(root / "loop.png")
    (root / "elsewhere").symlink_to(root / "a", target_is_directory=True)
    os.mkfifo(root / "pipe.png")
    return root


@pytest.mark.parametrize("deep", [True, False])
def test_pictures_are_those_that_pathlib_finds_in_the_same_order(odd: Path, deep: bool) -> None:
    expected = by_pathlib(odd, deep=deep)
    assert find_pictures(odd, deep=deep) == expected
    assert picture_names(odd, deep=deep) == [path.relative_to(odd).as_posix() for path in expected]
    assert "linked.png" in picture_names(odd) and "loop.png" not in picture_names(odd)


def test_paths_are_written_as_before(odd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From here, from the folder, from the top."""
    monkeypatch.chdir(odd)
    for root in (".", "a", str(odd), "../odd/a/"):
        assert list(find_predict_paths(root).paths) == [str(p) for p in by_pathlib(Path(root), deep=True)]
    Path("set/cat").mkdir(parents=True)
    Path("set/cat/1.png").touch()
    (found,) = find_class_folders(Path("set")).paths
    assert found == "set/cat/1.png"
    monkeypatch.chdir("set")
    assert find_class_folders(Path()).paths == ["cat/1.png"]


def test_masks_find_their_pictures_wherever_they_lie(tmp_path: Path) -> None:
    for name in (
        "train/p/x/1.jpg",
        "train/p/x.y.png",
        "val/p/1.png",
        "train/m/x/1_m.png",
        "train/m/x.y_m.gif",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "val/m").mkdir()
    (tmp_path / "val/m/1_m.png").touch()
    found = find_mask_folders(tmp_path, "./p/", "m/{stem}_m")
    assert [Path(path).relative_to(tmp_path).as_posix() for path in (*found.paths, *found.columns["mask"])] == [
        "train/p/x.y.png", "train/p/x/1.jpg", "val/p/1.png", "train/m/x.y_m.gif", "train/m/x/1_m.png", "val/m/1_m.png",
    ]  # fmt: skip
    assert found.names == ["train/p/x.y", "train/p/x/1", "val/p/1"]
    (tmp_path / "train/p/x.y.bmp").touch()
    (tmp_path / "train/p/alone.bmp").touch()
    problems = Problems(collecting=True)
    find_mask_folders(tmp_path, "p", "m/{stem}_m", problems)
    assert [problem.files for problem in problems.found] == [
        (str(tmp_path / "train/p/x.y.bmp"), str(tmp_path / "train/p/x.y.png")),
        (str(tmp_path / "train/p/alone.bmp"),),
    ]
    assert f"{tmp_path}/train/p has two files for one name: x.y.bmp and x.y.png" in problems.found[0].message


# --- what a million takes ---------------------------------------------------------------------------------------------


def test_lots_of_many_are_those_of_each() -> None:
    names = [f"name {number}" for number in range(70_000)]
    found = lots(7, Texts(names).encoded())
    for place in (0, 65_535, 65_536, 69_999):
        assert int(found[place]) == int.from_bytes(lot(7, names[place])[:8], "big")
    assert len(found) == len(names) and len(lots(7, [])) == 0
    assert list(Texts(names)) == names  # the texts come in blocks of as many


class CountedMasks(MaskReader):
    """Masks of one pixel, whose value is the number of their file by 7."""

    def read(self, entry: str) -> torch.Tensor:
        return torch.full((8, 8), int(entry) % 7, dtype=torch.uint8)

    def stamp(self, entry: str) -> str:
        return entry


def test_a_scan_of_masks_keeps_nothing_of_each(tmp_path: Path) -> None:
    """2 kB of counts a mask were kept, 5 GB for a million."""
    picture = tmp_path / "a.png"
    Image.new("L", (8, 8)).save(picture)
    count = 5000
    samples = Samples(["a"] * count, [str(picture)] * count, {"mask": [str(n) for n in range(count)]})
    tracemalloc.start()
    found = scan_masks(samples, CountedMasks(), problems=Problems(collecting=True))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.pixels == {value: 64 * len(range(value, count, 7)) for value in range(7)}
    assert found.examples == {value: str(value) for value in range(7)}, "the first file of each"
    assert most < 6e6, f"{most / count:.0f} bytes a mask"


def test_what_is_wrong_with_masks_is_told_in_their_order(tmp_path: Path) -> None:
    paths: list[str] = []
    for number, side in enumerate((8, 9, 8, 10)):
        paths.append(str(tmp_path / f"{number}.png"))
        Image.new("L", (side, side)).save(paths[-1])
    problems = Problems(collecting=True)
    samples = Samples(paths, paths, {"mask": ["1", "2", "3", "4"]})
    found = scan_masks(samples, CountedMasks(), problems=problems)
    assert [problem.files[0] for problem in problems.found] == [paths[1], paths[3]]
    assert found.pixels == {1: 64, 3: 64}, "masks that are refused are not counted"


def test_alike_pictures_are_found_without_floats_of_all_of_them() -> None:
    count = 4000
    rng = np.random.default_rng(0)
    thumbs = rng.integers(0, 256, (count, SIDE, SIDE), dtype=np.uint8)
    thumbs[7] = thumbs[3] ^ 1
    thumbs[9] = 100
    prints = rng.integers(0, 2**63, count, dtype=np.uint64)
    prints[7] = prints[3]
    nothing = np.zeros(count, dtype=bool)
    digests = [bytes([number // 256, number % 256]) for number in range(count)]
    facts = PictureFacts([""] * count, nothing, np.full((count, 2), 64, np.int32), digests, prints, thumbs)
    tracemalloc.start()
    assert near_pairs(facts) == [(3, 7)]
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < thumbs.nbytes, "as floats they took four times their size"


def test_class_folders_and_masks_of_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real files: right, and so little memory for each that a million fit."""
    monkeypatch.setenv("LOUPE_CACHE", str(tmp_path / "cache"))
    root = class_folders(tmp_path / "files", 20_000)
    of_folders = ClassificationDataModule(str(root), image_size=8, loader=Loader(batch_size=4, num_workers=0))
    tracemalloc.start()
    of_folders.setup("fit")
    kept, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(of_folders.train_paths) == 14_000 and of_folders.num_classes == 100
    assert kept / 20_000 < 150 and most / 20_000 < 500, (kept, most)
    of_table = ClassificationDataModule(str(manifest(root)), image_size=8)
    of_table.setup("fit")
    # other names, so other lots; the same files in all
    names = [
        sorted(map(str, (*data.train_paths, *data.val_paths, *data.test_paths)))
        for data in (of_folders, of_table)
    ]
    assert names[0] == names[1]
    masks = SegmentationDataModule(
        str(mask_folders(tmp_path / "masks", 200, side=8, classes=3)),
        image_size=8,
        loader=Loader(batch_size=4, num_workers=0),
    )
    masks.setup("fit")
    assert masks.num_classes == 3
    assert set(next(iter(masks.train_dataloader()))["mask"].unique().tolist()) == {0, 1, 2}


# --- the benchmarks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [on_paper, scale_jobs])
def test_the_arithmetic_is_right(module: object) -> None:
    failed, tried = doctest.testmod(module)  # type: ignore[arg-type]
    assert tried and not failed


def test_growth_is_told_from_what_does_not_grow() -> None:
    assert exponent({10: 5.0, 100: 5.0, 1000: 5.0}) == 0
    assert exponent({10: 1.0, 100: 10**1.5, 1000: 1000.0}) == 1.5
    intercept, slope = line({1000: 1.001, 100_000: 1.1, 1_000_000: 2.0})
    assert (intercept, slope) == (pytest.approx(1.0), pytest.approx(1e-6))


def test_gpus_on_paper() -> None:
    """ResNet-50 by hand: 25.6 M parameters; 8 GPUs send 2 * 7/8 * 4 * 25.6e6 bytes at 450 GB/s."""
    counted = on_paper.Counted(25_600_000, 8.2e9)
    assert on_paper.sent_bytes(25_600_000, 8) == 179_200_000
    assert on_paper.reduce_s(25_600_000, 8) == pytest.approx(179.2e6 / 450e9)
    assert on_paper.reduce_s(25_600_000, 512) == pytest.approx(4 * 25.6e6 * 2 * 511 / 512 / 400e9)
    assert on_paper.step_s(8.2e9, 256, 0.1) == pytest.approx(3 * 8.2e9 * 256 / 98.9e12)
    backward = on_paper.step_s(8.2e9, 256, 1.0) * 2 / 3
    assert on_paper.hidden_below(counted, 256, 8) == pytest.approx(
        backward / on_paper.reduce_s(25_600_000, 8)
    )


def test_networks_are_counted_as_published() -> None:
    """ResNet-50 v1 has 3.8e9 multiplications with an addition (He et al. 2016), v2 4.1e9; each counts as two."""
    counted = on_paper.count("cls_resnet50v2", 1000, 224)
    assert counted.parameters == 25_549_352  # timm's results table: 25.55 M
    assert counted.forward_flops == pytest.approx(2 * 4.1e9, rel=0.01)


def test_a_point_is_measured_in_a_process_of_its_own(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "files", 1000)
    words = [*scale_jobs.CLASSIFIER, *scale_jobs.COMMON, f"--data.root={root}", "--data.image_size=32"]
    words += ["--data.loader.num_workers=0", "--training.batch_size=4", "--trainer.limit_train_batches=1"]
    ((at, point),) = scale_jobs.series({1000: scale_jobs.Job("first_step", words)}, tmp_path, 1).items()
    assert at == 1000 and point["cpu_s"] > 0 and point["peak_mb"] > point["added_mb"] > 0


@pytest.mark.slow
def test_points_are_measured_in_processes_of_their_own(tmp_path: Path) -> None:
    """A small run from end to end, and its JSON."""
    words = ["--quick=1", "--rounds=1", "--only=evaluation", f"--out={tmp_path}"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "scale.py"), *words],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "scale.json").read_text())
    points = found["about"]["points"]["evaluation segmentation"]
    assert set(points) == {"2", "20"}
    assert all(point["step_ms"] > 0 and point["peak_mb"] > point["added_mb"] > 0 for point in points.values())
    assert set(found["figures"]) == {
        "evaluation: memory added, in logits",
        "evaluation: batch of 20 to 2 classes",
    }


@pytest.mark.parametrize("deep", [False, True])
def test_a_folder_that_may_not_be_listed_is_not_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deep: bool
) -> None:
    """One below it, such as lost+found, is passed over. Root may list any, so the system's answer is made up."""
    (tmp_path / "closed").mkdir()
    (tmp_path / "a.png").touch()
    scan = os.scandir

    def refusing(folder: str) -> Any:
        if Path(folder).name == "closed":
            raise PermissionError(13, "Permission denied", folder)
        return scan(folder)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(LoupeError, match="closed may not be read"):
        picture_names(tmp_path / "closed", deep=deep)
    assert picture_names(tmp_path) == ["a.png"]
