"""Intervals: they hold what they should, they are of the very scores that `metrics` computes, and they are quick."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import pytest

from reports.bootstrap import intervals, resamples
from reports.run_files import Evaluation
from reports.weighted_scores import RANKED, score_function
from tests import reported

SIX = [f"class {k}" for k in range(6)]
FOUND = {
    "classification": lambda: reported.classification(90, SIX),
    "multi_label": lambda: reported.multi_label(60, SIX),
    "segmentation": lambda: reported.segmentation(30, SIX),
    "binary segmentation": lambda: reported.segmentation(30, SIX[:2]),
    "cropping": lambda: reported.cropping(60),
}


def evaluation(found: tuple[dict[str, Any], ...], **arrays: np.ndarray) -> Evaluation:
    meta, held = found
    return Evaluation(meta, {"index": np.arange(meta["samples"]), **held, **arrays}, [])


def coarse(found: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
    """The same with log-odds of few values: many are equal."""
    meta, arrays = found
    return meta, {k: v.round() if k in ("log_odds", "confidence") else v for k, v in arrays.items()}


@pytest.mark.parametrize("task", FOUND)
def test_with_equal_weights_scores_are_those_of_metrics(task: str) -> None:
    one = evaluation(FOUND[task]())
    scores = score_function(one)
    assert scores is not None
    found = {name: values[..., 0] for name, values in scores(np.ones((one.samples, 1))).items()}
    columns = {f"{name}_per_class": values for name, values in one.per_class.items()}
    told = {"loss", "calibration_error", "boundary_iou", "boundary_iou_per_class", "count_per_class"}
    assert found.keys() == (one.scores | columns).keys() - told
    for name, values in found.items():
        np.testing.assert_allclose(values, (one.scores | columns)[name], atol=1e-7, err_msg=name)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("task", FOUND)
def test_a_weight_is_that_many_copies(task: str, ties: bool) -> None:
    one = evaluation(coarse(FOUND[task]()) if ties else FOUND[task]())
    weights = np.random.default_rng(2).integers(0, 4, one.samples)
    copied = np.repeat(np.arange(one.samples), weights)
    per_picture = {k: v for k, v in one.arrays.items() if k not in ("confusion", "reliability")}
    other = Evaluation(one.meta, {k: v[copied] for k, v in per_picture.items()}, [])
    weighted, plain = score_function(one), score_function(other)
    assert weighted is not None and plain is not None
    with np.errstate(divide="ignore", invalid="ignore"):
        found, wanted = weighted(weights[:, None].astype(np.float32)), plain(np.ones((len(copied), 1)))
    assert found.keys() == wanted.keys()
    for name in found:
        np.testing.assert_allclose(found[name], wanted[name], atol=1e-6, err_msg=name)


def test_the_interval_of_an_accuracy_holds_the_truth_in_95_of_100_cases() -> None:
    rng, truth, cases = np.random.default_rng(0), 0.8, 400
    inside = 0
    for _ in range(cases):
        right = (rng.random(150) < truth).astype(np.float64)
        found = intervals(lambda w, right=right: {"accuracy": right @ w / w.sum(0)}, 150, count=300)[
            "accuracy"
        ]
        inside += found.low <= truth <= found.high
    # 95 % -+ three standard errors of 400 cases, and the percentile interval's own 1 % at 150 pictures
    assert 0.905 <= inside / cases <= 0.985


def test_groups_widen_the_interval() -> None:
    """Ten copies of each of 30 pictures are 30 pictures: the interval is sqrt(10) as wide as that of 300."""
    right = np.repeat(np.random.default_rng(1).random(30) < 0.7, 10).astype(np.float64)
    group = np.repeat(np.arange(30), 10)

    def scores(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {"accuracy": right @ weights / weights.sum(0)}

    alone, grouped = (intervals(scores, 300, g)["accuracy"] for g in (None, group))
    assert (grouped.high - grouped.low) / (alone.high - alone.low) == pytest.approx(math.sqrt(10), rel=0.15)


def test_resamples_draw_whole_groups_and_the_same_ones_each_time() -> None:
    group = np.array([5, 5, 9, 9, 9, 2])
    (first,), (again,) = list(resamples(6, group, count=20)), list(resamples(6, group, count=20))
    assert np.array_equal(first, again)
    assert np.array_equal(first[0], first[1]) and np.array_equal(first[2], first[4])
    assert np.array_equal(first[[0, 2, 5]].sum(0), np.full(20, 3))


def test_a_class_that_is_absent_in_more_than_one_resample_of_twenty_has_no_interval() -> None:
    """With n pictures of a class among many, exp(-n) of the resamples have none of it."""
    label = np.r_[np.zeros(90, np.int64), np.ones(8, np.int64), [2, 2]]
    predicted = label % 2
    predicted[[0, 90]] = 1, 0  # a class that is always right has no interval either
    found = (reported.classification(100, SIX[:3])[0], {"label": label, "predicted": predicted})
    scores = score_function(evaluation(found))
    assert scores is not None
    recall = intervals(scores, 100)["recall_per_class"]
    assert np.isnan(recall.low).tolist() == [False, False, True]  # exp(-8), exp(-2) = 14 %
    assert np.isnan(recall.values[2]).mean() == pytest.approx(math.exp(-2), abs=0.05)


def test_what_is_the_same_in_all_resamples_has_no_interval() -> None:
    found = intervals(lambda w: {"accuracy": np.ones(100) @ w / w.sum(0)}, 100)["accuracy"]
    assert np.isnan(found.low) and np.isnan(found.high)


@pytest.mark.parametrize("task", ["classification", "multi_label"])
def test_answers_alone_are_enough_for_what_needs_no_order(task: str) -> None:
    one = evaluation(FOUND[task]())
    log_odds = one.arrays.pop("log_odds")
    whole = one.scores | {f"{name}_per_class": values for name, values in one.per_class.items()}
    one.arrays["predicted"] = log_odds.argmax(1) if task == "classification" else log_odds > 0
    scores = score_function(one)
    assert scores is not None
    found = scores(np.ones((one.samples, 1)))
    assert {"accuracy", "balanced_accuracy", "f1", "recall_per_class"} <= found.keys()
    assert not {"auroc", "average_precision", "top5"} & found.keys()
    for name, values in found.items():
        np.testing.assert_allclose(values[..., 0], whole[name], atol=1e-7, err_msg=name)


@pytest.mark.parametrize("missing", ["label", "log_odds", "index"])
def test_without_the_results_of_pictures_there_are_no_intervals(missing: str) -> None:
    meta, arrays = reported.classification(20, SIX)
    held = {name: values for name, values in {"index": np.arange(20), **arrays}.items() if name != missing}
    assert score_function(Evaluation(meta, held, [])) is None


def test_arrays_of_another_length_are_not_taken_for_pictures() -> None:
    assert score_function(evaluation(reported.cropping(20), iou=np.ones(3, np.float32))) is None


def test_one_picture_and_one_group_have_no_interval() -> None:
    def scores(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {"accuracy": weights.mean(0)}

    assert intervals(scores, 1) == {} == intervals(scores, 5, np.zeros(5, np.int64))


def test_fifty_thousand_pictures_of_a_hundred_classes_take_seconds() -> None:
    names = [str(k) for k in range(100)]
    one = evaluation(reported.classification(50_000, names))
    scores = score_function(one)
    assert scores is not None
    began = time.perf_counter()
    found = intervals(scores, 50_000)
    assert time.perf_counter() - began < 20  # 0.7 s on a quiet machine
    assert "auroc" not in found and one.arrays["log_odds"].size > RANKED
    assert found["accuracy"].low < one.scores["accuracy"] < found["accuracy"].high
