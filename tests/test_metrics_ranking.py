"""AUROC, average precision, top-5 and calibration: by hand, against scikit-learn, written out, and absent classes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score, top_k_accuracy_score
from torch import Tensor

from metrics import ClassificationScores, MultiLabelScores
from metrics.ranking import rank_classes, ranking


def test_ranking_by_hand() -> None:
    # positives 0.9 and 0.4, negatives 0.6 and 0.4: pairs won 1 + 1, 0 + half
    found = ranking(np.array([0.9, 0.6, 0.4, 0.4]), np.array([True, False, True, False]))
    assert found == (2.5 / 4, (1 / 1 + 2 / 4) / 2)


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 60), st.floats(0.05, 0.95), st.integers(1, 40), st.integers(0, 10**6))
def test_ranking_as_scikit_learn_with_ties(count: int, share: float, levels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    score, positive = rng.integers(0, levels, count).astype(np.float32), rng.random(count) < share
    auroc, precision = ranking(score, positive)
    if positive.any():
        assert precision == pytest.approx(average_precision_score(positive, score), abs=1e-12)
    else:
        assert math.isnan(precision)
    if positive.any() and not positive.all():
        assert auroc == pytest.approx(roc_auc_score(positive, score), abs=1e-12)
    else:
        assert math.isnan(auroc)


def test_ranking_of_many_scores() -> None:
    """200,000 of them: pairs are counted in whole numbers, of which float32 holds no more than 2**24."""
    rng = np.random.default_rng(0)
    positive = rng.random(200_000) < 0.3
    score = (rng.random(200_000) + 0.2 * positive).astype(np.float32)
    auroc, precision = ranking(score, positive)
    assert auroc == pytest.approx(roc_auc_score(positive, score), abs=1e-12)
    assert precision == pytest.approx(average_precision_score(positive, score), abs=1e-12)


def test_no_order_among_what_is_no_number() -> None:
    assert all(map(math.isnan, ranking(np.array([0.1, np.nan]), np.array([True, False]))))


def test_columns_beyond_one_block() -> None:
    rng = np.random.default_rng(1)
    scores, target = rng.random((50, 130)), rng.integers(0, 130, 50)
    auroc, precision = rank_classes(scores, target)
    for number in (0, 63, 64, 129):
        np.testing.assert_equal(
            (auroc[number], precision[number]), ranking(scores[:, number], target == number)
        )
    assert np.isnan(auroc).sum() == 130 - len(np.unique(target))


# --- one class a picture ------------------------------------------------------------------------------------------


def expected_calibration_error(confidence: np.ndarray, right: np.ndarray, bins: int = 15) -> float:
    """Guo et al. 2017, equations 1 to 3, as they stand there."""
    total = 0.0
    for m in range(1, bins + 1):
        inside = (confidence > (m - 1) / bins) & (confidence <= m / bins)
        if inside.any():
            total += inside.sum() / len(right) * abs(right[inside].mean() - confidence[inside].mean())
    return total


def some_logits(count: int, classes: int, present: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(0, present, (count,), generator=generator)
    logits = torch.randn(count, classes, generator=generator) * 2
    logits[torch.arange(count), target] += 1.5
    return logits, target


def scored(scores: Any, logits: Tensor, target: Tensor, parts: int = 3) -> dict[str, float]:
    for some, truth in zip(logits.tensor_split(parts), target.tensor_split(parts), strict=True):
        scores.update(some, truth)
    return {name: value.item() for name, value in scores.compute().items() if value.ndim == 0}


@pytest.mark.parametrize(("classes", "present"), [(2, 2), (3, 3), (12, 12), (9, 6)])
def test_one_class_as_scikit_learn(classes: int, present: int) -> None:
    logits, target = some_logits(200, classes, present, classes)
    found = scored(ClassificationScores(classes), logits, target)
    probs, truth = logits.double().softmax(1).numpy(), target.numpy()
    each = [truth == number for number in range(present)]
    auroc = np.mean([roc_auc_score(yes, probs[:, i]) for i, yes in enumerate(each)])
    precision = np.mean([average_precision_score(yes, probs[:, i]) for i, yes in enumerate(each)])
    assert found["auroc"] == pytest.approx(auroc, abs=1e-6)
    assert found["average_precision"] == pytest.approx(precision, abs=1e-6)
    error = expected_calibration_error(probs.max(1), probs.argmax(1) == truth)
    assert found["calibration_error"] == pytest.approx(error, abs=1e-6)
    if classes > 5:
        top5 = top_k_accuracy_score(truth, probs, k=5, labels=range(classes))
        assert found["top5"] == pytest.approx(top5, abs=1e-12)
        assert found["accuracy"] < top5 < 1
    else:
        assert "top5" not in found


def test_top5_of_equal_logits_is_by_the_order_of_classes_as_accuracy() -> None:
    found = scored(ClassificationScores(10), torch.zeros(10, 10), torch.arange(10))
    assert (found["accuracy"], found["top5"]) == (0.1, 0.5)
    assert scored(ClassificationScores(10), torch.full((10, 10), torch.nan), torch.arange(10))["top5"] == 0


def test_confident_probabilities_keep_their_order() -> None:
    """In float32 these probabilities are all exactly 1 and 0, and the order would be lost."""
    logits = torch.tensor([[30.0, 0.0], [25.0, 0.0], [20.0, 0.0]])
    assert logits.softmax(1)[:, 0].tolist() == [1.0, 1.0, 1.0]
    found = scored(ClassificationScores(2), logits, torch.tensor([0, 0, 1]))
    assert found["auroc"] == 1.0


def test_half_precision_logits_are_scored_in_float32() -> None:
    logits, target = some_logits(60, 7, 7, 3)
    half = logits.bfloat16()
    assert scored(ClassificationScores(7), half, target) == scored(
        ClassificationScores(7), half.float(), target
    )


def test_wrong_shapes_raise() -> None:
    with pytest.raises(ValueError, match=r"must be \(B, 3\)"):
        ClassificationScores(3).update(torch.zeros(4, 2), torch.zeros(4).long())


# --- any number of labels -----------------------------------------------------------------------------------------


def test_multi_label_as_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(0)
    target = (torch.rand(90, 5, generator=generator) < torch.tensor([0.5, 0.2, 0.1, 0.0, 1.0])).float()
    logits = torch.randn(90, 5, generator=generator) + 2 * target - 1
    scores = MultiLabelScores(5)
    scores.update(logits[:1], 1 - target[:1], torch.tensor([False]))  # padding
    found = scored(scores, logits, target)
    probs, truth = logits.double().sigmoid().numpy(), target.numpy() > 0
    # nobody has the fourth class, and everybody the fifth
    auroc = [roc_auc_score(truth[:, i], probs[:, i]) for i in (0, 1, 2)]
    precision = [average_precision_score(truth[:, i], probs[:, i]) for i in (0, 1, 2, 4)]
    assert found["auroc"] == pytest.approx(np.mean(auroc), abs=1e-6)
    assert found["average_precision"] == pytest.approx(np.mean(precision), abs=1e-6)
    answers = probs > 0.5
    confidence = np.where(answers, probs, 1 - probs).ravel()
    error = expected_calibration_error(confidence, (answers == truth).ravel())
    assert found["calibration_error"] == pytest.approx(error, abs=1e-6)
    assert scores.compute()["auroc_per_class"].isnan().tolist() == [False, False, False, True, True]
