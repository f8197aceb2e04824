"""MixUp and CutMix in real runs: which losses take them, what is said, and that they train."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import Outcome
from tests.tasks import CLASSIFICATION, CROPPING, SEGMENTATION, draw, write_task

Loupe = Callable[..., Outcome]


@pytest.mark.parametrize("loss", ["dice", "tversky", "dice_ce"])
def test_a_loss_without_probabilities_is_refused_before_the_first_step(
    loupe: Loupe, tmp_path: Path, loss: str
) -> None:
    data = write_task("classification", tmp_path / "data")
    outcome = loupe(
        "fit",
        *CLASSIFICATION.words,
        f"--data.root={data}",
        "--data.augment.mixup=0.2",
        f"--training.loss={loss}",
    )
    assert outcome.code == 2
    assert f"makes class probabilities, which training.loss {loss} does not take" in outcome.err
    assert "categorical_crossentropy, label_smoothing or focal" in outcome.err
    assert "Traceback" not in outcome.err and "epoch 1/1" not in outcome.out


@pytest.mark.parametrize("loss", ["categorical_crossentropy", "focal"])
def test_a_real_fit_with_both(loupe: Loupe, tmp_path: Path, loss: str) -> None:
    data = write_task("classification", tmp_path / "data")
    words = ("--data.augment.mixup=0.2", "--data.augment.cutmix=1.0", f"--training.loss={loss}")
    outcome = loupe("fit", *CLASSIFICATION.words, f"--data.root={data}", *words, "--training.epochs=2")
    assert outcome.code == 0, outcome.err
    assert "mixup 0.2 + cutmix 1" in outcome.out
    assert "epoch 2/2" in outcome.out


def test_a_segmenter_takes_cutmix_and_any_loss_and_refuses_mixup(loupe: Loupe, tmp_path: Path) -> None:
    data = write_task("segmentation", tmp_path / "data")
    words = [*SEGMENTATION.words, f"--data.root={data}", "--training.loss=dice"]
    outcome = loupe("fit", *words, "--data.augment.cutmix=1.0")
    assert outcome.code == 0, outcome.err
    outcome = loupe("fit", *words, "--data.augment.mixup=1.0")
    assert outcome.code == 2 and "mixup mixes labels; masks are class numbers" in outcome.err


def test_several_labels_are_mixed_too(loupe: Loupe, tmp_path: Path) -> None:
    rows = ["path,labels,split"]
    for number in range(12):
        Image.fromarray(draw(number)[0]).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{('a', 'b', 'a;b', '')[number % 4]},{'train' if number < 8 else 'val'}")
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    words = [*CLASSIFICATION.words, f"--data.root={tmp_path}", "--training.monitor=val/loss"]
    mixed = ("--data.augment.mixup=0.4", "--data.augment.cutmix=1.0")
    outcome = loupe("fit", *words, *mixed)
    assert outcome.code == 0, outcome.err
    outcome = loupe("fit", *words, *mixed, "--training.loss=dice")
    assert outcome.code == 2 and "training.loss dice does not take" in outcome.err


def test_a_cropper_refuses_both(loupe: Loupe, tmp_path: Path) -> None:
    data = write_task("cropping", tmp_path / "data")
    for word, message in (
        ("mixup", "boxes have no mean"),
        ("cutmix", "a picture with two parts is undefined"),
    ):
        outcome = loupe("fit", *CROPPING.words, f"--data.root={data}", f"--data.augment.{word}=1.0")
        assert outcome.code == 2 and message in outcome.err


def test_an_odd_last_picture_is_kept(loupe: Loupe, tmp_path: Path) -> None:
    """Seven in batches of four: the last is three, of which one has no partner, and batch norm sees three."""
    data = write_task("classification", tmp_path / "data")
    (data / "train" / "left" / "6.png").unlink()
    outcome = loupe("fit", *CLASSIFICATION.words, f"--data.root={data}", "--data.augment.cutmix=1.0")
    assert outcome.code == 0, outcome.err
    assert "left out" not in outcome.out + outcome.err
