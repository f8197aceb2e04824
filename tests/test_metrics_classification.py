"""Classification and box scores: by hand, against scikit-learn, and absent classes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    precision_recall_fscore_support,
    roc_auc_score,
)
from torch import Tensor
from torch.nn.functional import one_hot
from torchvision.ops import box_iou as torchvision_box_iou

from errors import LoupeError
from metrics import BoxScores, ClassificationScores, box_iou


def scores_of(preds: list[int], target: list[int], classes: int = 3) -> dict[str, Tensor]:
    scores = ClassificationScores(classes)
    scores.update(one_hot(torch.tensor(preds), classes), torch.tensor(target))
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
    logits = torch.tensor([[1.0, 0.0], [0.0, 9.0]])
    scores.update(logits, torch.tensor([0, 0]), torch.tensor([True, False]))
    found = scores.compute()
    assert found["accuracy"].item() == 1.0
    assert found["calibration_error"].item() == pytest.approx(1 - 1 / (1 + math.exp(-1)))
    assert found["average_precision"].item() == 1.0 and found["auroc"].isnan(), "one class alone has no AUROC"
    scores.reset()
    for empty in (scores, ClassificationScores(9)):
        assert all(value.isnan() for value in empty.compute().values() if value.ndim == 0)


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
    preds[11] = truth[11] + (truth[11, 2:] - truth[11, :2]).mul(0.3).repeat(2)  # IoU 0.49 / 1.51
    preds[13] = truth[13] + (truth[13, 2:] - truth[13, :2]).mul(0.15).repeat(2)  # 0.72 / 1.28
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
    assert found["box_iou_75"].item() == pytest.approx((iou >= 0.75).float().mean().item())
    assert 0.2 < found["box_iou_75"].item() < found["box_iou_50"].item()
    assert found["confidence_auroc"].item() == pytest.approx(roc_auc_score(has_box, confidence))


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")
def test_what_cannot_be_judged_is_nan() -> None:
    scores = BoxScores()
    assert all(value.isnan() for value in scores.compute().values() if value.ndim == 0)
    scores.update(torch.ones(2, 4), torch.rand(2), torch.ones(2, 4), torch.tensor([False, False]))
    assert math.isnan(scores.compute()["box_iou"].item())
    scores.update(
        random_boxes(1, 0), torch.rand(1), random_boxes(1, 0), torch.tensor([True]), torch.tensor([False])
    )
    found = scores.compute()
    assert all(value.isnan() for value in found.values() if value.ndim == 0), "padding is no object"
