"""Segmentation scores from one confusion matrix, by hand and against scikit-learn; and the mean loss."""

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix, f1_score, jaccard_score
from torch import Tensor

from errors import LoupeError
from metrics import MeanLoss, SegmentationScores


def scored(
    num_classes: int, preds: list[int], target: list[int], valid: Tensor | None = None
) -> dict[str, Tensor]:
    scores = SegmentationScores(num_classes)
    scores.update(torch.tensor(preds).view(1, 1, -1), torch.tensor(target).view(1, 1, -1), valid)
    return scores.compute()


def test_by_hand() -> None:
    # class 0: hit 1, predicted 2, truth 2 -> 1/3, 2/4; class 1: hit 1, 2 and 2 -> 1/3, 2/4; class 2: 1, 1, 1 -> 1
    result = scored(3, preds=[0, 0, 1, 1, 2], target=[0, 1, 1, 0, 2])
    assert result["iou_per_class"].tolist() == pytest.approx([1 / 3, 1 / 3, 1.0])
    assert result["dice_per_class"].tolist() == pytest.approx([0.5, 0.5, 1.0])
    assert result["iou"].item() == pytest.approx(5 / 9)
    assert result["dice"].item() == pytest.approx(2 / 3)
    assert result["accuracy"].item() == pytest.approx(3 / 5)
    assert result["iou"].dtype == torch.float64


def test_absent_class_is_absent_and_not_a_score() -> None:
    result = scored(4, preds=[0, 0, 1], target=[0, 0, 3])
    # 2 is nowhere. 1 is predicted only and 3 in the truth only: those are present, and wrong.
    assert result["present"].tolist() == [True, True, False, True]
    assert result["iou_per_class"][:2].tolist() == [1.0, 0.0]
    assert result["iou_per_class"][2].isnan()
    assert result["iou"].item() == pytest.approx(1 / 3)


def test_background_is_left_out_of_two_classes() -> None:
    result = scored(2, preds=[0, 0, 0, 1, 1], target=[0, 0, 0, 1, 0])
    assert result["iou"].item() == 0.5
    assert result["dice"].item() == pytest.approx(2 / 3)
    assert result["iou_per_class"].tolist() == [0.75, 0.5]
    assert scored(2, preds=[0, 0], target=[0, 0])["iou"].isnan()


def test_one_channel_is_background_and_foreground() -> None:
    result = scored(1, preds=[0, 1, 1], target=[0, 1, 0])
    assert result["iou"].item() == 0.5
    assert len(result["iou_per_class"]) == 2


def test_void_pixels_and_padding_samples_do_not_count() -> None:
    preds = torch.tensor([[[0, 1, 1]], [[0, 0, 0]]])
    target = torch.tensor([[[0, 1, 255]], [[1, 1, 1]]])
    scores = SegmentationScores(2)
    scores.update(preds, target, torch.tensor([True, False]))
    assert scores.confusion.tolist() == [[1, 0], [0, 1]]
    # A void pixel may carry any prediction, and a padding sample any target.
    scores.update(preds * 9, target * 9, torch.tensor([False, False]))
    scores.update(torch.tensor([[[7]]]), torch.tensor([[[255]]]))
    assert scores.compute()["iou"].item() == 1.0


def test_nothing_counted_is_nan() -> None:
    assert all(scored(3, preds=[0], target=[255])[name].isnan() for name in ("iou", "dice", "accuracy"))


@pytest.mark.parametrize(("preds", "target"), [([0], [3]), ([3], [0]), ([-1], [0]), ([0], [-1])])
def test_impossible_classes_are_reported(preds: list[int], target: list[int]) -> None:
    with pytest.raises(LoupeError, match=r"1 pixels hold a class outside 0\.\.2"):
        scored(3, preds, target)


def test_wrong_shapes_and_kinds_raise() -> None:
    scores = SegmentationScores(2)
    with pytest.raises(ValueError, match="differ in shape"):
        scores.update(torch.zeros(1, 2, 2).long(), torch.zeros(1, 2).long())
    with pytest.raises(TypeError, match="integers"):
        scores.update(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2).long())


def test_agrees_with_scikit_learn_over_batches() -> None:
    generator = np.random.default_rng(0)
    target = generator.integers(0, 5, (6, 9, 11))
    preds = np.where(generator.random(target.shape) < 0.6, target, generator.integers(0, 5, target.shape))
    scores = SegmentationScores(6)  # the sixth class is absent
    for start in (0, 4):
        batch = slice(start, start + 4)
        scores.update(torch.from_numpy(preds[batch]).to(torch.uint8), torch.from_numpy(target[batch]))
    result = scores.compute()
    truth, guess = target.ravel(), preds.ravel()
    assert np.array_equal(scores.confusion.numpy()[:5, :5], confusion_matrix(truth, guess))
    assert result["iou_per_class"][:5].tolist() == pytest.approx(
        list(jaccard_score(truth, guess, average=None))
    )
    assert result["iou"].item() == pytest.approx(jaccard_score(truth, guess, average="macro"))
    assert result["dice"].item() == pytest.approx(f1_score(truth, guess, average="macro"))


def test_counts_beyond_what_float32_can_hold() -> None:
    scores = SegmentationScores(2)
    scores.by_kind[0, 0, 3] = 2**24
    scores.update(torch.zeros(1, 1, 1).long(), torch.zeros(1, 1, 1).long())
    assert scores.by_kind[0, 0].tolist() == [0, 0, 0, 2**24 + 1]
    scores.half()
    assert scores.counts.dtype == torch.int64


def test_reset_starts_anew() -> None:
    scores = SegmentationScores(2)
    scores.update(torch.ones(1, 1, 4).long(), torch.zeros(1, 1, 4).long())
    scores.reset()
    assert scores.counts.sum() == 0


@pytest.mark.gpu
def test_gpu_counts_the_same_without_waiting() -> None:
    torch.manual_seed(0)
    preds, target = torch.randint(0, 20, (2, 8, 64, 64), device="cuda")
    target[0, :9] = 255
    valid = torch.tensor([True] * 7 + [False], device="cuda")
    scores, reference = SegmentationScores(20).cuda(), SegmentationScores(20)
    torch.cuda.set_sync_debug_mode("error")
    try:
        scores.update(preds, target, valid)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    reference.update(preds.cpu(), target.cpu(), valid.cpu())
    assert torch.equal(scores.counts.cpu(), reference.counts)
    assert scores.compute()["iou"] == reference.compute()["iou"]


def test_mean_loss_weighs_batches_by_their_samples() -> None:
    loss = MeanLoss()
    loss.update(torch.tensor(1.0), 32)
    loss.update(torch.tensor(4.0), torch.tensor(16))
    assert loss.compute().item() == 2.0


def test_mean_loss_ignores_batches_without_samples_and_tells_divergence() -> None:
    loss = MeanLoss()
    loss.update(torch.tensor(1.0), 2)
    loss.update(torch.tensor(float("nan")), 0)
    assert loss.compute().item() == 1.0
    loss.update(torch.tensor(float("nan")), 1)
    assert loss.compute().isnan()


def test_mean_loss_does_not_hold_the_graph_and_adds_in_float64() -> None:
    loss = MeanLoss()
    loss.update(torch.tensor(2.0**24, requires_grad=True), 1)
    loss.update(torch.tensor(1.0), 1)
    assert not loss.compute().requires_grad
    assert loss.total.item() == 2**24 + 1


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")
def test_mean_loss_of_nothing_is_nan() -> None:
    assert MeanLoss().compute().isnan()
