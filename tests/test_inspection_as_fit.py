"""`check` refuses what a fit with the same settings refuses, in its words."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.tasks import CLASSIFICATION, SEGMENTATION, write_task
from tests.test_inspection_check import Loupe, by_kind, names, root, run_check

__all__ = ["root"]


@pytest.mark.parametrize(
    "flags",
    [
        ("--training.batch_size=10", "--training.accumulate=4"),
        ("--training.batch_size=6", "--training.accumulate=2", "--data.augment.cutmix=1"),
    ],
)
def test_batches_that_cannot_be_shared_out(loupe: Loupe, root: Path, flags: tuple[str, ...]) -> None:
    write_task("classification", root)
    fit = loupe("fit", *CLASSIFICATION.words, f"--data.root={root}", *flags)
    assert fit.code == 2
    code, report = run_check(loupe, CLASSIFICATION, root, *flags)
    (message,) = by_kind(report)["setting"]["messages"]
    assert code == 1 and fit.err.strip() == f"error: {message}"


def test_settings_of_the_trainer_that_cannot_work(loupe: Loupe, root: Path) -> None:
    write_task("classification", root)
    words = [*CLASSIFICATION.words, f"--data.root={root}", "--trainer.precision=16-mixed"]
    fit, check = loupe("fit", *words), loupe("check", *words)
    assert fit.code == check.code == 2 and fit.err == check.err and "float16" in check.err


def test_what_skipping_does_not_skip_is_an_error(loupe: Loupe, root: Path) -> None:
    write_task("classification", root)
    frames = [Image.new("RGB", (32, 32), (40 * i, 9, 9)) for i in range(3)]
    frames[0].save(root / "train" / "left" / "film.gif", save_all=True, append_images=frames[1:])
    code, report = run_check(loupe, CLASSIFICATION, root, "--data.on_error=skip")
    found = by_kind(report)["unusable picture"]
    assert code == 1 and found["severity"] == "error" and names(found) == ["film.gif"]
    assert "holds 3 pictures" in found["messages"][0]
    assert loupe("fit", *CLASSIFICATION.words, f"--data.root={root}", "--data.on_error=skip").code == 2


def test_a_mask_template_is_no_mapping(loupe: Loupe, root: Path) -> None:
    write_task("segmentation", root)
    for mask in root.rglob("masks/*.png"):
        mask.rename(mask.with_name(f"{mask.stem}_mask.png"))
    code, report = run_check(loupe, SEGMENTATION, root, "--data.read.masks=masks/{stem}_mask")
    assert code == 0 and report["parts"]["train"] == 8
    for mask in root.rglob("masks/*.png"):
        mask.rename(mask.parent.parent / mask.name)
    for picture in root.rglob("images/*.png"):
        picture.rename(picture.parent.parent / picture.name)
    code, _ = run_check(loupe, SEGMENTATION, root, "--data.read.images=.", "--data.read.masks={stem}_mask")
    assert code == 0


def test_a_report_that_cannot_be_written_is_the_users_mistake(
    loupe: Loupe, root: Path, tmp_path: Path
) -> None:
    write_task("classification", root)
    (tmp_path / "file").touch()
    outcome = loupe(
        "check", *CLASSIFICATION.words, f"--data.root={root}", f"--run.directory={tmp_path / 'file'}"
    )
    assert outcome.code == 2 and f"run.directory: cannot write to {tmp_path}" in outcome.err


def test_semicolons_are_told_from_commas(loupe: Loupe, root: Path) -> None:
    root.mkdir()
    (root / "manifest.csv").write_text("path;label\na.png;x\n")
    outcome = loupe("fit", *CLASSIFICATION.words, f"--data.root={root}")
    assert outcome.code == 2 and "separated by semicolons (path;label); save it with commas" in outcome.err
