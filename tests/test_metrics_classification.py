"""Classification and box scores: by hand, against scikit-learn, absent classes, and on two processes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    precision_recall_fscore_support,
    roc_auc_score,
)
from torch import Tensor
from torchvision.ops import box_iou as torchvision_box_iou

from errors import LoupeError
from metrics import BoxScores, ClassificationScores, box_iou


def scores_of(preds: list[int], target: list[int], classes: int = 3) -> dict[str, Tensor]:
    scores = ClassificationScores(classes)
    scores.update(torch.tensor(preds), torch.tensor(target))
    return scores.compute()


def test_by_hand() -> None:
    found = scores_of([0, 0, 0, 1, 2, 2], [0, 0, 1, 1, 2, 0])
    assert found["accuracy"].item() == pytest.approx(4 / 6)
    assert found["recall_per_class"].tolist() == pytest.approx([2 / 3, 1 / 2, 1])
    assert found["precision_per_class"].tolist() == pytest.approx([2 / 3, 1, 1 / 2])
    assert found["f1_per_class"].tolist() == pytest.approx([2 / 3, 2 / 3, 2 / 3])
    assert found["balanced_accuracy"].item() == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert found["f1"].item() == pytest.approx(2 / 3)
    assert found["count_per_class"].tolist() == [3, 2, 1]


@pytest.mark.parametrize("seed", range(5))
def test_as_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    target, preds = rng.integers(0, 6, 80), rng.integers(0, 6, 80)
    found = scores_of(preds.tolist(), target.tolist(), 6)
    precision, recall, f1, support = precision_recall_fscore_support(target, preds, zero_division=np.nan)
    assert found["accuracy"].item() == pytest.approx(accuracy_score(target, preds))
    assert found["balanced_accuracy"].item() == pytest.approx(balanced_accuracy_score(target, preds))
    assert found["f1"].item() == pytest.approx(f1.mean())
    for name, values in (("precision", precision), ("recall", recall), ("f1", f1), ("count", support)):
        assert found[f"{name}_per_class"].tolist() == pytest.approx(values.tolist())


def test_absent_classes_are_absent() -> None:
    found = scores_of([0, 2, 0], [0, 0, 0], 4)  # 1 and 3 are nowhere, 2 is predicted and never true
    assert found["balanced_accuracy"].item() == pytest.approx(2 / 3)
    assert found["recall_per_class"][1:].isnan().all()
    assert found["f1_per_class"][2].item() == 0
    assert found["f1_per_class"][[1, 3]].isnan().all()
    assert found["f1"].item() == pytest.approx((0.8 + 0) / 2)


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")
def test_padding_counts_nothing_and_no_picture_is_nan() -> None:
    scores = ClassificationScores(2)
    scores.update(torch.tensor([0, 1]), torch.tensor([0, 0]), torch.tensor([True, False]))
    assert scores.compute()["accuracy"].item() == 1.0
    scores.reset()
    assert all(math.isnan(scores.compute()[name].item()) for name in ("accuracy", "balanced_accuracy", "f1"))


def test_impossible_classes_are_reported() -> None:
    with pytest.raises(LoupeError, match=r"1 pictures hold a class outside 0\.\.1; check them"):
        scores_of([0], [2], 2)


# --- boxes --------------------------------------------------------------------------------------------------------


def random_boxes(count: int, seed: int) -> Tensor:
    corner = torch.rand(count, 2, 2, generator=torch.Generator().manual_seed(seed)) * 100
    return torch.cat([corner.amin(1), corner.amax(1)], dim=1)


def test_box_iou_as_torchvision() -> None:
    first, second = random_boxes(100, 0), random_boxes(100, 1)
    torch.testing.assert_close(box_iou(first, second), torchvision_box_iou(first, second).diagonal())
    assert box_iou(torch.zeros(4), torch.zeros(4)).item() == 0


def test_box_scores_by_hand_and_as_scikit_learn() -> None:
    truth, preds = random_boxes(40, 2), random_boxes(40, 3)
    preds[:10] = truth[:10]
    has_box = torch.arange(40) % 4 > 0
    confidence = torch.rand(40, generator=torch.Generator().manual_seed(4))
    confidence[5] = confidence[6]  # a tie
    scores = BoxScores()
    for part in range(0, 40, 8):
        rows = slice(part, part + 8)
        scores.update(preds[rows], confidence[rows], truth[rows], has_box[rows])
    found = scores.compute()
    iou = torchvision_box_iou(preds, truth).diagonal()[has_box]
    assert found["box_iou"].item() == pytest.approx(iou.mean().item())
    assert found["box_iou_50"].item() == pytest.approx((iou >= 0.5).float().mean().item())
    assert found["confidence_auroc"].item() == pytest.approx(roc_auc_score(has_box, confidence))


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")
def test_what_cannot_be_judged_is_nan() -> None:
    scores = BoxScores()
    assert all(math.isnan(value.item()) for value in scores.compute().values())
    scores.update(torch.ones(2, 4), torch.rand(2), torch.ones(2, 4), torch.tensor([False, False]))
    assert math.isnan(scores.compute()["box_iou"].item())
    scores.update(
        random_boxes(1, 0), torch.rand(1), random_boxes(1, 0), torch.tensor([True]), torch.tensor([False])
    )
    found = scores.compute()
    assert all(math.isnan(value.item()) for value in found.values()), "padding is no object"


# --- two processes ------------------------------------------------------------------------------------------------


def on_two(rank: int, file: str) -> None:
    target = torch.tensor([0, 1, 2, 2, 1])
    preds = torch.tensor([0, 1, 1, 2, 0])
    truth, boxes = random_boxes(5, 5), random_boxes(5, 6)
    has_box, confidence = torch.tensor([True, False, True, True, True]), torch.linspace(0, 1, 5)
    alone_labels, alone_boxes = ClassificationScores(3), BoxScores()
    alone_labels.update(preds, target)
    alone_boxes.update(boxes, confidence, truth, has_box)
    expected = {**alone_labels.compute(), **alone_boxes.compute()}
    torch.distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    labels, cropped = ClassificationScores(3), BoxScores()
    # 0 2 4 here and 1 3 there, padded to three
    rows = torch.tensor([0, 2, 4] if rank == 0 else [1, 3, 3])
    valid = torch.tensor([True, True, rank == 0])
    for part in (slice(0, 2), slice(2, 3)):
        labels.update(preds[rows][part], target[rows][part], valid[part])
        some = rows[part]
        cropped.update(boxes[some], confidence[some], truth[some], has_box[some], valid[part])
    for name, value in {**labels.compute(), **cropped.compute()}.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-12, atol=0, equal_nan=True)
    torch.distributed.destroy_process_group()


def test_two_processes_count_each_picture_once(tmp_path: Path) -> None:
    mp.start_processes(on_two, args=(str(tmp_path / "store"),), nprocs=2, start_method="spawn")
