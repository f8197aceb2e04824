"""A trained classifier and a trained cropper in use: scores, tables, predictions, crops, notebooks, two processes."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import inference
from cli import main
from datamodules import InputReader
from metrics import box_iou
from tests.conftest import Outcome, forget_leaked
from tests.tasks import CLASSIFICATION, CROPPING, PARTS, ROOT, SIZE, Task, draw, numbered, write_task

Loupe = Callable[..., Outcome]
EPOCHS = ("--training.epochs=30", "--training.learning_rate=1e-2", "--training.tensorboard=false")


def trained(task: Task, folder: Path) -> Path:
    """The folder in which a run of the task lies below ``runs``, with its data beside it."""
    write_task(task.name, folder / "data")
    before = Path.cwd()
    os.chdir(folder)
    try:
        forget_leaked()
        assert main(["fit", *task.words, "--data.root=data", *EPOCHS, "--training.monitor=train/loss"]) == 0
    finally:
        os.chdir(before)
    return folder


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(CLASSIFICATION, tmp_path_factory.mktemp("classifier"))


@pytest.fixture(scope="module")
def cropper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(CROPPING, tmp_path_factory.mktemp("cropper"))


def run_of(folder: Path) -> Path:
    (run,) = (folder / "runs").glob("*/version_0")
    return run


def use(loupe: Loupe, monkeypatch: pytest.MonkeyPatch, folder: Path, command: str, *flags: str) -> str:
    monkeypatch.chdir(folder)
    outcome = loupe(command, "--config", str(run_of(folder) / "config.yaml"), "--ckpt_path=best", *flags)
    assert outcome.code == 0, outcome.err
    return outcome.out


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def latest_predictions(folder: Path) -> list[dict[str, str]]:
    return rows_of(run_of(folder) / "predictions" / "predictions.csv")


# --- classifier ---------------------------------------------------------------------------------------------------


def test_test_prints_and_keeps_a_row_for_each_class(
    loupe: Loupe, monkeypatch: pytest.MonkeyPatch, classifier: Path
) -> None:
    out = use(loupe, monkeypatch, classifier, "test")
    scores = json.loads((run_of(classifier) / "test.json").read_text())["scores"]
    assert {"test/loss", "test/accuracy", "test/balanced_accuracy", "test/f1"} <= set(scores)
    table = rows_of(run_of(classifier) / "test_classes.csv")
    columns = ["class", "precision", "recall", "f1", "auroc", "average_precision", "count"]
    assert list(table[0]) == columns
    assert [(row["class"], row["count"]) for row in table] == [("left", "2"), ("right", "2")]
    recalls = [float(row["recall"]) for row in table]
    assert scores["test/balanced_accuracy"] == pytest.approx(sum(recalls) / 2, abs=1e-6)
    assert columns in [line.split() for line in out.splitlines()]
    # ... and is right about it: predict says the same of the same pictures
    use(loupe, monkeypatch, classifier, "predict", "--data.predict_path=data/test")
    said = [row["label"] == Path(row["path"]).parent.name for row in latest_predictions(classifier)]
    assert scores["test/accuracy"] == pytest.approx(sum(said) / len(said))


def test_predict_writes_the_probability_of_each_class(
    loupe: Loupe, monkeypatch: pytest.MonkeyPatch, classifier: Path
) -> None:
    use(loupe, monkeypatch, classifier, "predict", "--data.predict_path=data/val")
    rows = latest_predictions(classifier)
    assert list(rows[0]) == ["path", "label", "confidence", "prob_left", "prob_right"]
    assert len(rows) == PARTS["val"]
    predictor = inference.load(run_of(classifier) / "checkpoints" / "best.ckpt")
    for row in rows:
        probs = {name: float(row[f"prob_{name}"]) for name in ("left", "right")}
        assert sum(probs.values()) == pytest.approx(1, abs=2e-6)
        assert row["label"] == max(probs, key=probs.__getitem__)
        assert float(row["confidence"]) == max(probs.values())
        assert predictor.predict(row["path"])["row"]["label"] == row["label"]
        alone = predictor.predict(np.asarray(Image.open(row["path"])))["row"]
        assert alone["prob_left"] == pytest.approx(probs["left"], abs=1e-4)
    assert predictor.class_names == ["left", "right"]


def test_a_notebook_needs_no_data_and_no_weights_file(
    classifier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = torch.load(
        run_of(classifier) / "checkpoints" / "best.ckpt", map_location="cpu", weights_only=True
    )
    content["hyper_parameters"]["weights"] = "imagenet"
    torch.save(content, classifier / "moved.ckpt")
    monkeypatch.setattr("models.timm_backbone.hub_errors", lambda *_: pytest.fail("the hub was asked"))
    assert inference.load(classifier / "moved.ckpt").predict(draw(0)[0])["row"]["label"] in ("left", "right")


# --- interpolation ------------------------------------------------------------------------------------------------


def test_pictures_are_resized_as_the_backbone_wants_and_the_checkpoint_remembers(
    loupe: Loupe, tmp_path: Path
) -> None:
    root = write_task("classification", tmp_path / "data")
    seen: dict[str, Any] = {}
    for name, flags in {
        "auto": ["--model.backbone=mobilenetv3_small_050"],
        "own": ["--model.backbone=mobilenetv3_small_050", "--data.read.interpolation=bilinear"],
    }.items():
        words = [*CLASSIFICATION.words, *flags, "--data.image_size=24", "--training.tensorboard=false"]
        outcome = loupe("fit", *words, f"--data.root={root}", f"--run.name={name}")
        assert outcome.code == 0, outcome.err
        ckpt = tmp_path / "runs" / name / "version_0" / "checkpoints" / "last.ckpt"
        seen[name] = torch.load(ckpt, map_location="cpu", weights_only=True)["loupe"]["input"]
    assert (seen["auto"]["interpolation"], seen["own"]["interpolation"]) == ("bicubic", "bilinear")
    picture = draw(0)[0]
    auto, own = (InputReader(seen[name])(picture)["image"] for name in ("auto", "own"))
    assert not torch.equal(auto, own)
    before_interpolation_was_kept = {k: v for k, v in seen["own"].items() if k != "interpolation"}
    assert torch.equal(InputReader(before_interpolation_was_kept)(picture)["image"], own)


# --- cropper ------------------------------------------------------------------------------------------------------


def test_scores_of_the_cropper_are_those_of_its_predictions(
    loupe: Loupe, monkeypatch: pytest.MonkeyPatch, cropper: Path
) -> None:
    use(loupe, monkeypatch, cropper, "test")
    scores = json.loads((run_of(cropper) / "test.json").read_text())["scores"]
    pictures = cropper / "test.csv"
    pictures.write_text("path\n" + "".join(f"data/test_{n}.png\n" for n in range(PARTS["test"])))
    use(loupe, monkeypatch, cropper, "predict", f"--data.predict_path={pictures}")
    rows = latest_predictions(cropper)
    assert list(rows[0]) == ["path", "x1", "y1", "x2", "y2", "confidence"]
    said = torch.tensor([[float(row[key]) for key in ("x1", "y1", "x2", "y2")] for row in rows])
    truth = torch.tensor([list(draw(total)[1]) for part, _, total in numbered() if part == "test"]).float()
    iou = box_iou(said, truth)[:3]  # the fourth picture has no object
    assert scores["test/box_iou"] == pytest.approx(iou.mean().item(), abs=5e-3)
    assert scores["test/box_iou_50"] == pytest.approx((iou >= 0.5).float().mean().item())
    assert bool((said[:, 2:] > said[:, :2]).all()) and float(said.min()) >= 0 and float(said.max()) <= SIZE
    assert not (run_of(cropper) / "predictions" / "crops").exists()


def test_boxes_are_in_pixels_of_the_upright_original(
    loupe: Loupe, monkeypatch: pytest.MonkeyPatch, cropper: Path
) -> None:
    """The same picture plain, three times as large, and stored on its side: one box, in three frames."""
    folder = cropper / "frames"
    folder.mkdir(exist_ok=True)
    picture = Image.fromarray(draw(0)[0])
    picture.save(folder / "a.png")
    picture.resize((SIZE * 3, SIZE * 3), Image.Resampling.NEAREST).save(folder / "b.png")
    turned = picture.transpose(Image.Transpose.ROTATE_90)  # what a camera stores that was held to the side
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(folder / "c.png", exif=exif)
    out = use(
        loupe, monkeypatch, cropper, "predict", f"--data.predict_path={folder}", "--model.save_crops=true"
    )
    assert "3 predictions" in out
    a, b, c = ([float(row[key]) for key in ("x1", "y1", "x2", "y2")] for row in latest_predictions(cropper))
    predictor = inference.load(run_of(cropper) / "checkpoints" / "best.ckpt")
    seen = predictor.reader(folder / "b.png")["image"].permute(1, 2, 0).numpy()  # as the network sees b.png
    small = predictor.predict(seen)["row"]
    assert b == pytest.approx([3 * small[key] for key in ("x1", "y1", "x2", "y2")], abs=0.05)
    assert c == pytest.approx(a, abs=0.05)
    for row, box in zip(latest_predictions(cropper), (a, b, c), strict=True):
        assert row["crop"] == (
            f"crops/{Path(row['path']).stem}.png" if float(row["confidence"]) >= 0.5 else ""
        )
        file = run_of(cropper) / "predictions" / "crops" / f"{Path(row['path']).stem}.png"
        assert file.exists() == (float(row["confidence"]) >= 0.5)
        if file.exists():
            x1, y1, x2, y2 = int(box[0]), int(box[1]), -int(-box[2] // 1), -int(-box[3] // 1)
            upright = np.asarray(
                picture.resize((SIZE * 3, SIZE * 3), 0) if "b.png" in row["path"] else picture
            )
            np.testing.assert_array_equal(np.asarray(Image.open(file)), upright[y1:y2, x1:x2])
    assert (run_of(cropper) / "predictions" / "crops" / "a.png").exists()


# --- two processes ------------------------------------------------------------------------------------------------


@pytest.mark.slow  # test_distributed_*.py has the same by default
@pytest.mark.parametrize("task", [CLASSIFICATION, CROPPING], ids=lambda task: task.name)
def test_two_processes_train_and_score_as_one(task: Task, tmp_path: Path) -> None:
    """lcnet has batch norm, which the CPU cannot share: equal are the first loss's batch and every count of the scores.

    With the weights frozen at the start (learning rate 0 is refused, so 1e-30) validation is the same to rounding.
    """
    root = write_task(task.name, tmp_path / "data")
    found: dict[int, dict[str, str]] = {}
    for processes in (1, 2):
        words = [
            *task.words,
            f"--data.root={root}",
            "--training.learning_rate=1e-30",
            "--training.tensorboard=false",
        ]
        words += [
            f"--run.name=p{processes}",
            f"--trainer.devices={processes}",
            "--model.freeze_backbone=true",
        ]
        words += ["--trainer.strategy=ddp"] if processes == 2 else []
        subprocess.run(
            [sys.executable, str(ROOT / "train.py"), "fit", *words],
            cwd=tmp_path,
            check=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            timeout=240,
            capture_output=True,
        )
        (found[processes],) = rows_of(tmp_path / "runs" / f"p{processes}" / "version_0" / "metrics.csv")
    names = [name for name in found[1] if name.startswith("val/")]
    assert len(names) >= 4
    if task is CROPPING:  # its head has batch norm, whose statistics two processes see apart
        names = []
        assert set(found[1]) == set(found[2])
    for name in [*names, *(["train/loss"] if task is CLASSIFICATION else [])]:
        assert float(found[2][name] or "nan") == pytest.approx(
            float(found[1][name] or "nan"), rel=1e-5, nan_ok=True
        ), name
