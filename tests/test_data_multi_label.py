"""Any number of labels a picture: from the column `labels` to a trained network's predictions and scores."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import inference
from datamodules import ClassificationDataModule, LabelRead, Loader, Split
from errors import LoupeError
from metrics import MultiLabelScores
from tests.conftest import Outcome
from tests.tasks import CLASSIFICATION, SIZE

Loupe = Callable[..., Outcome]


def manifest(root: Path, labels: list[str], parts: list[str] | None = None, column: str = "labels") -> Path:
    """Pictures whose channels are bright for the labels `red`, `green`, `blue`."""
    root.mkdir(parents=True, exist_ok=True)
    rows = [f"path,{column}" + (",split" if parts else "")]
    rng = np.random.default_rng(0)
    for i, entry in enumerate(labels):
        picture = rng.integers(0, 60, (SIZE, SIZE, 3), dtype=np.uint8)
        for channel, name in enumerate(("red", "green", "blue")):
            picture[..., channel] += 180 * (name in entry)
        Image.fromarray(picture).save(root / f"{i:03}.png")
        rows.append(f"{i:03}.png,{entry}" + (f",{parts[i]}" if parts else ""))
    (root / "manifest.csv").write_text("\n".join(rows) + "\n")
    return root


def module(root: Path, **arguments: Any) -> ClassificationDataModule:
    arguments = {"image_size": SIZE, "loader": Loader(batch_size=8, num_workers=0), **arguments}
    data = ClassificationDataModule(str(root), **arguments)
    data.setup("fit")
    return data


# --- the data -----------------------------------------------------------------------------------------------------


def test_labels_are_a_row_of_yes_and_no(tmp_path: Path) -> None:
    labels = ["red; blue", "", "green;", "blue;red ;blue", " ; ", "green;blue"]
    data = module(manifest(tmp_path, labels, ["train"] * 5 + ["val"]))
    assert data.multi_label
    assert data.class_names == ["blue", "green", "red"]
    assert data.class_counts() == [2, 1, 2]
    label = data.target(data.samples["train"])
    rows = [label(i, None)["label"].tolist() for i in range(5)]  # type: ignore[arg-type]
    assert rows == [[1, 0, 1], [0, 0, 0], [0, 1, 0], [1, 0, 1], [0, 0, 0]]
    batch = next(iter(data.val_dataloader()))
    assert batch["label"].tolist() == [[1, 1, 0]]
    assert batch["label"].dtype == torch.float32
    (train,) = data.train_dataloader()
    assert train["label"].shape == (5, 3)
    assert train["label"].sum(0).tolist() == [2, 1, 2]
    for row, index in zip(train["label"], train["index"].tolist(), strict=True):
        assert row.tolist() == rows[index]


def test_names_decide_the_order_and_may_have_no_picture(tmp_path: Path) -> None:
    root = manifest(tmp_path, ["red", "blue;red", "10", "9"], ["train", "train", "train", "val"], "LABELS ")
    with pytest.raises(LoupeError, match="the train part has no picture of the label 9"):
        module(root)
    root = manifest(tmp_path, ["red", "blue;red", "", "red"], ["train", "train", "train", "val"])
    data = module(root, read=LabelRead(class_names=["red", "grey", "blue"]))
    assert next(iter(data.val_dataloader()))["label"].tolist() == [[1, 0, 0]]
    assert data.class_counts() == [2, 0, 1]
    with pytest.raises(LoupeError, match=r"has the labels blue, which are not in data\.read\.class_names"):
        module(root, read=LabelRead(class_names=["red", "grey"]))


def test_a_single_class_is_enough_and_none_is_not(tmp_path: Path) -> None:
    data = module(manifest(tmp_path / "1", ["red", "", "red", ""], ["train", "train", "val", "val"]))
    assert (data.class_names, data.class_counts()) == (["red"], [1])
    with pytest.raises(LoupeError, match="no picture has a label; the column labels is empty throughout"):
        module(manifest(tmp_path / "2", ["", ";", "", ""], ["train", "train", "val", "val"]))
    with pytest.raises(
        LoupeError, match=r"manifest\.csv has the columns label \(one\) and labels \(several\)"
    ):
        module(manifest(tmp_path / "3", ["a,b", "c,d"], column="label,labels"))


def test_drawn_parts_have_their_share_of_the_rarest_label(tmp_path: Path) -> None:
    labels = ["red;blue" if i % 10 == 0 else "red" if i % 2 else "" for i in range(100)]  # 10, 50, 40
    for split in (Split(val=0.2, test=0.1), Split(test=0.1, num_folds=4, fold=1)):
        data = module(manifest(tmp_path, labels), split=split)
        shares = {
            part: [sum("blue" in entry for entry in inside.columns["labels"]), len(inside)]
            for part, inside in data.samples.items()
        }
        if split.fold is None:
            assert shares == {"train": [7, 70], "val": [2, 20], "test": [1, 10]}
            assert sum(entry == "" for entry in data.samples["val"].columns["labels"]) == 8
        else:
            assert shares["test"] == [1, 10]
            assert shares["val"][0] in (2, 3)


# --- the scores ---------------------------------------------------------------------------------------------------


def scores_of(preds: np.ndarray, target: np.ndarray, sizes: tuple[int, ...] = ()) -> dict[str, torch.Tensor]:
    scores = MultiLabelScores(target.shape[1])
    for some, truth in zip(np.split(preds, sizes), np.split(target, sizes), strict=True):
        scores.update(torch.from_numpy(np.where(some, 1.0, -1.0)), torch.from_numpy(truth).float())
    return scores.compute()


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 40), st.integers(2, 6), st.floats(0, 1), st.floats(0, 1), st.integers(0, 10**6))
def test_scores_as_scikit_learn(count: int, classes: int, share: float, likely: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    target, preds = rng.random((count, classes)) < share, rng.random((count, classes)) < likely
    found = scores_of(preds, target, (count // 3, count // 2))
    assert float(found["accuracy"]) == pytest.approx((preds == target).mean())
    tables = sklearn.metrics.multilabel_confusion_matrix(target, preds)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        judged = sklearn.metrics.precision_recall_fscore_support(
            target, preds, average=None, zero_division=np.nan
        )
    for key, expected in zip(("precision", "recall", "f1", "count"), judged, strict=True):
        np.testing.assert_allclose(found[f"{key}_per_class"].numpy(), expected, equal_nan=True)
    with np.errstate(invalid="ignore"):
        rates = np.array([np.diag(table) / table.sum(1) for table in tables])
    both = [row.mean() for row in rates if not np.isnan(row).any()]
    expected = np.mean(both) if both else np.nan
    assert float(found["balanced_accuracy"]) == pytest.approx(expected, nan_ok=True)
    named = judged[2][~np.isnan(judged[2])]
    assert float(found["f1"]) == pytest.approx(named.mean() if len(named) else np.nan, nan_ok=True)


def test_scores_by_hand() -> None:
    """Class 0: tp 1, fn 1, fp 1, tn 1. Class 1: nobody has it, one false alarm. Class 2: nobody has or gets it."""
    target = np.array([[1, 0, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0]], dtype=bool)
    preds = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 0]], dtype=bool)
    found = scores_of(preds, target)
    assert float(found["accuracy"]) == pytest.approx(9 / 12)
    assert found["recall_per_class"].tolist() == pytest.approx([0.5, np.nan, np.nan], nan_ok=True)
    assert found["precision_per_class"].tolist() == pytest.approx([0.5, 0.0, np.nan], nan_ok=True)
    assert found["f1_per_class"].tolist() == pytest.approx([0.5, 0.0, np.nan], nan_ok=True)
    assert found["count_per_class"].tolist() == [2, 0, 0]
    assert float(found["balanced_accuracy"]) == 0.5
    assert float(found["f1"]) == 0.25


def test_padding_counts_for_nothing_and_strange_targets_are_told() -> None:
    scores = MultiLabelScores(2)
    yes = torch.ones(2, 2)
    scores.update(yes, torch.zeros(2, 2), torch.tensor([False, False]))
    assert all(torch.isnan(value) for value in scores.compute().values() if value.ndim == 0)
    scores.update(yes, torch.tensor([[1.0, 1.0], [0.0, 7.0]]), torch.tensor([True, False]))
    assert float(scores.compute()["accuracy"]) == 1.0
    for preds, target in ((yes, torch.ones(2, 3)), (yes[0], torch.ones(2)), (yes[:, :1], torch.ones(2, 1))):
        with pytest.raises(ValueError, match=r"must be \(B, 2\)"):
            scores.update(preds, target)
    scores.update(yes, torch.tensor([[0.5, 1.0], [0.0, 1.0]]))
    with pytest.raises(LoupeError, match="labels: 1 are neither 0 nor 1"):
        scores.compute()


# --- a run --------------------------------------------------------------------------------------------------------

LARGER = ("--training.epochs=30", "--data.image_size=64", "--training.batch_size=12")
COLORS = ["red;green", "blue", "", "red", "green;blue", "red;green;blue", "green", "red;blue"]


@pytest.fixture
def colors(tmp_path: Path) -> Path:
    return manifest(tmp_path / "data", COLORS * 5, ["train"] * 24 + ["val"] * 8 + ["test"] * 8)


def test_fit_test_and_predict(loupe: Loupe, tmp_path: Path, colors: Path) -> None:
    words = [
        *CLASSIFICATION.words,
        f"--data.root={colors}",
        "--training.tensorboard=false",
        "--run.name=multi",
    ]
    loss = ["--training.loss=categorical_crossentropy", "--training.learning_rate=1e-2"]
    outcome = loupe("fit", *words, *loss, *LARGER)
    assert outcome.code == 0, outcome.err
    run = tmp_path / "runs" / "multi" / "version_0"
    use = ["--config", str(run / "config.yaml"), "--ckpt_path=best", f"--data.root={colors}"]
    outcome = loupe("test", *use)
    assert outcome.code == 0, outcome.err
    with (run / "test_classes.csv").open(newline="") as stream:
        assert [(row["class"], row["count"]) for row in csv.DictReader(stream)] == [
            (name, "4") for name in ("blue", "green", "red")
        ]
    outcome = loupe("predict", *use, f"--data.predict_path={colors}")
    assert outcome.code == 0, outcome.err
    with (run / "predictions" / "predictions.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["path", "labels", "prob_blue", "prob_green", "prob_red"]
    assert len(rows) == 40
    right = 0
    predictor = inference.load(run / "checkpoints" / "best.ckpt")
    for i, row in enumerate(rows):
        likely = [name for name in ("blue", "green", "red") if float(row[f"prob_{name}"]) > 0.5]
        assert row["labels"] == ";".join(likely)
        right += set(likely) == set(filter(None, COLORS[i % 8].split(";")))
    assert right >= 20, "by chance it would be 5"  # each picture is one of eight
    alone = predictor.predict(rows[0]["path"])["row"]
    assert alone["labels"] == rows[0]["labels"]
    assert alone["prob_red"] == pytest.approx(float(rows[0]["prob_red"]), abs=1e-4)


def test_one_epoch_of_the_config_as_it_is(loupe: Loupe, colors: Path) -> None:
    outcome = loupe("fit", *CLASSIFICATION.words, f"--data.root={colors}", "--training.tensorboard=false")
    assert outcome.code == 0, outcome.err


@pytest.mark.parametrize(
    "loss", ["focal", "{type: categorical_crossentropy, class_weight: balanced}", "dice"]
)
def test_losses_that_answer_each_class(loupe: Loupe, colors: Path, loss: str) -> None:
    flags = [f"--data.root={colors}", f"--training.loss={loss}", "--training.tensorboard=false"]
    outcome = loupe("fit", *CLASSIFICATION.words, *flags, "--data.loader.sampling=balanced")
    assert outcome.code == 0, outcome.err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--training.loss={type: focal, multilabel: false}"],
            "multilabel is false, and each picture has any number",
        ),
        (["--training.loss=box_smooth_l1"], "box_smooth_l1"),
        (["--training.monitor=val/iou"], "val/iou"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_first_step(
    loupe: Loupe, colors: Path, flags: list[str], message: str
) -> None:
    outcome = loupe("fit", *CLASSIFICATION.words, f"--data.root={colors}", *flags)
    assert outcome.code != 0
    assert message in outcome.err
    assert "Traceback" not in outcome.err


def test_one_label_a_picture_is_not_several(loupe: Loupe, tmp_path: Path) -> None:
    root = manifest(tmp_path / "one", ["red", "blue"] * 8, ["train"] * 8 + ["val"] * 8, column="label")
    flags = [f"--data.root={root}", "--training.loss={type: focal, multilabel: true}"]
    outcome = loupe("fit", *CLASSIFICATION.words, *flags)
    assert outcome.code != 0
    assert "training.loss.multilabel is true, and each picture has one label; leave it out" in outcome.err
