"""What a reviewer found, each as the command that showed it."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

import inference
from cli import Training
from datamodules import ClassificationDataModule
from datamodules.formats import find_boxes
from datamodules.images import image_size_hw, read_image
from errors import LoupeError
from metrics import MeanLoss
from models import accepts_single_sample, create_model
from tests.conftest import Outcome
from tests.tasks import CLASSIFICATION, CROPPING, draw, write_task

Loupe = Callable[..., Outcome]


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    return write_task("classification", tmp_path / "labels")


@pytest.fixture
def boxes(tmp_path: Path) -> Path:
    return write_task("cropping", tmp_path / "boxes")


def metrics(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_fit_that_goes_on_at_another_size_tells_its_checkpoint(loupe: Loupe, labels: Path) -> None:
    words = [*CLASSIFICATION.words, f"--data.root={labels}", "--training.tensorboard=false"]
    assert loupe("fit", *words).code == 0
    more = ["--training.epochs=2", "--data.image_size=40", "--data.read.resize=stretch"]
    assert loupe("fit", *words, *more, "--ckpt_path=last").code == 0
    predictor = inference.load("runs/cls_mobilenetv3/version_0/checkpoints/last.ckpt")
    assert (predictor.reader.size_hw, predictor.reader.resize) == ((40, 40), "stretch")


def test_a_monitor_without_anything_to_judge_is_told_and_ends_nothing(loupe: Loupe, boxes: Path) -> None:
    file = boxes / "manifest.csv"
    lines = file.read_text().splitlines()
    file.write_text("\n".join(line for line in lines if ",,,," not in line) + "\n")
    words = [*CROPPING.words, f"--data.root={boxes}", "--training.epochs=3", "--training.tensorboard=false"]
    watch = [
        "--training.monitor=val/confidence_auroc",
        "--training.early_stopping={enabled: true, patience: 9}",
    ]
    outcome = loupe("fit", *words, *watch)
    assert outcome.code == 0, outcome.err
    assert outcome.out.count("val/confidence_auroc is not a number in epoch 1") == 1
    assert "val/confidence_auroc was never a number; best.ckpt is the first epoch's" in outcome.out
    assert len(metrics(Path("runs/crop_mobilenetv3/version_0"))) == 3


@pytest.mark.parametrize(
    ("monitor", "mode"),
    [
        ("val/loss", "min"),
        ("train/loss", "min"),
        ("val/recall_per_class/blossom", "max"),
        ("val/recall_per_class/c/loss", "max"),
        ("val/iou_per_class/no_error", "max"),
        ("val/accuracy", "max"),
        ("val/box_iou_50", "max"),
    ],
)
def test_the_name_of_a_class_does_not_turn_the_monitor_round(monitor: str, mode: str) -> None:
    assert Training(monitor=monitor).mode == mode


@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_the_croppers_val_loss_does_not_depend_on_the_batch(
    loupe: Loupe, boxes: Path, batch_size: int
) -> None:
    """One network, never trained (learning rate 1e-30, frozen norms): the loss of four pictures, one of them empty."""
    words = [
        *CROPPING.words,
        f"--data.root={boxes}",
        "--training.tensorboard=false",
        "--training.batch_size=4",
    ]
    frozen = ["--training.learning_rate=1e-30", "--model.freeze_backbone=true"]
    assert loupe("fit", *words, *frozen).code == 0
    config = "--config=runs/crop_mobilenetv3/version_0/config.yaml"
    losses = []
    for size in (4, batch_size):
        outcome = loupe("validate", config, "--ckpt_path=last", f"--training.batch_size={size}")
        assert outcome.code == 0, outcome.err
        losses.append(float(outcome.out.split("val/loss")[1].split()[0]))
    assert losses[0] == pytest.approx(losses[1], abs=1.1e-4)


def test_a_term_over_fewer_samples_has_its_own_mean() -> None:
    loss = MeanLoss(terms=2)
    loss.update(torch.tensor([2.0, 1.0]), torch.tensor([1, 4]))
    loss.update(torch.tensor([0.0, 3.0]), torch.tensor([0, 4]))
    assert loss.compute().item() == pytest.approx(2 + 2)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_tiff_is_measured_as_it_is_read(tmp_path: Path, orientation: int) -> None:
    image = Image.new("RGB", (40, 30))
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(tmp_path / "a.tif", exif=exif)
    assert image_size_hw(tmp_path / "a.tif") == tuple(read_image(tmp_path / "a.tif").shape[1:])


def test_parts_without_classes_are_no_classes(tmp_path: Path) -> None:
    for part in ("train", "test"):
        (tmp_path / part).mkdir()
        for n in range(4):
            Image.fromarray(draw(n)[0]).save(tmp_path / part / f"{n}.png")
    data = ClassificationDataModule(str(tmp_path), image_size=32)
    with pytest.raises(LoupeError, match=r"must hold a folder for each class .* has 4 pictures"):
        data.setup("fit")
    for part in ("train", "test"):
        for label in ("a", "b"):
            (tmp_path / part / label).mkdir()
            Image.fromarray(draw(0)[0]).save(tmp_path / part / label / "x.png")
    with pytest.raises(LoupeError, match=r"4 pictures: .* beside its class folders"):
        data.setup("fit")


def test_equal_numbers_are_ordered_by_their_spelling(tmp_path: Path) -> None:
    for label in ("1", "01", "001", "2"):
        (tmp_path / label).mkdir()
        for n in range(4):
            Image.fromarray(draw(n)[0]).save(tmp_path / label / f"{n}.png")
    data = ClassificationDataModule(str(tmp_path), image_size=32)
    data.setup("fit")
    assert data.class_names == ["001", "01", "1", "2"]


def test_a_network_of_one_size_takes_that_size_and_names_it_otherwise() -> None:
    model = create_model("classifier", encoder="mixer_s32_224", num_classes=2)
    assert accepts_single_sample(model, (3, 224, 224))
    with pytest.raises(LoupeError, match=r"cannot take pictures of 64x64 \(data.image_size\)"):
        accepts_single_sample(model, (3, 64, 64))


def test_shares_of_the_picture_are_no_pixels(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    (tmp_path / "manifest.csv").write_text("path,x1,y1,x2,y2\na.png,0.1,0.2,0.6,0.9\n")
    with pytest.raises(
        LoupeError, match=r"all boxes lie within 0\.\.1, like shares of the picture; boxes are pixels"
    ):
        find_boxes(tmp_path)


def test_predict_takes_the_manifest_that_fit_takes(loupe: Loupe, boxes: Path) -> None:
    file = boxes / "manifest.csv"
    file.write_text(file.read_text() + "train_0.png,1,1,3,3,train\n")
    words = [*CROPPING.words, f"--data.root={file}", "--training.tensorboard=false"]
    assert loupe("fit", *words).code == 0
    outcome = loupe("predict", *words, "--ckpt_path=last", f"--data.predict_path={file}")
    assert outcome.code == 0, outcome.err
    assert "16 predictions" in outcome.out


def test_model_and_data_of_two_tasks_are_told(loupe: Loupe, labels: Path, boxes: Path) -> None:
    words = [*CLASSIFICATION.words, "--training.tensorboard=false"]
    outcome = loupe("fit", *words, "--data=datamodules.CropDataModule", f"--data.root={boxes}")
    assert outcome.code == 2
    assert (
        "ClassificationModule learns from label, and data CropDataModule gives box and has_box" in outcome.err
    )
    assert loupe("fit", *CROPPING.words, f"--data.root={boxes}", "--training.tensorboard=false").code == 0
    other = "--ckpt_path=runs/crop_mobilenetv3/version_0/checkpoints/last.ckpt"
    outcome = loupe("test", *words, f"--data.root={labels}", other)
    assert outcome.code == 2
    assert "written by lightning_modules.cropping.CropModule, and the config has" in outcome.err


def test_predict_speaks_of_no_demo(loupe: Loupe, labels: Path) -> None:
    assert (
        loupe("fit", *CLASSIFICATION.words, f"--data.root={labels}", "--training.tensorboard=false").code == 0
    )
    outcome = loupe("predict", *CLASSIFICATION.words, "--ckpt_path=last", f"--data.predict_path={labels}")
    assert outcome.code == 0, outcome.err
    assert "demo" not in outcome.out


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--data.split={val: 0.0, test: 0.3}", ["data.split.val is 0"]),
        (
            "--data.read.class_names=[a]",
            ["unknown setting data.read.class_names, which another task has"],
        ),
        ("--model.options={min_size: abc}", ["min_size is 'abc'"]),
    ],
)
def test_messages_name_the_reason(loupe: Loupe, tmp_path: Path, flag: str, words: list[str]) -> None:
    rows = ["path,x1,y1,x2,y2"]
    for n in range(8):
        picture, box = draw(n)
        Image.fromarray(picture).save(tmp_path / f"{n}.png")
        rows.append(",".join(map(str, (f"{n}.png", *box))))
    (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n")
    outcome = loupe("fit", *CROPPING.words, f"--data.root={tmp_path}", flag)
    assert outcome.code == 2
    assert all(word in outcome.err for word in words), outcome.err
