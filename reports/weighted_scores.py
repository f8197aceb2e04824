"""The scores of an evaluation when its pictures have weights: how often a resample has drawn each of them.

The formulas are those of `metrics/`; with all weights 1 the values are the same.
"""

import numpy as np

from metrics import answers_of
from reports.bootstrap import Scores
from reports.run_files import Evaluation

__all__ = ["RANKED", "score_function"]

#: Pictures times classes up to which AUROC and average precision get intervals.
RANKED = 1_000_000


def score_function(evaluation: Evaluation) -> Scores | None:
    """The function from weights (N, R) to scores, or None where the pictures' own results were not kept."""
    arrays = evaluation.arrays
    size = len(arrays.get("index", ()))
    if not size or any(len(arrays[name]) != size for name in _OF_PICTURES & arrays.keys()):
        return None
    match evaluation.task:
        case "classification" if evaluation.meta.get("multi_label"):
            needed, build = ("label",), _multi_label
        case "classification":
            needed, build = ("label",), _classification
        case "segmentation":
            needed, build = ("hits", "truth", "predicted"), _segmentation
        case "cropping":
            needed, build = ("iou", "confidence", "has_box"), _cropping
        case _:
            return None
    return build(evaluation) if all(name in arrays for name in needed) else None


_OF_PICTURES = {
    *("index", "group", "label", "log_odds", "hits", "truth", "iou", "confidence", "has_box"),
    "predicted",
}


def _classification(evaluation: Evaluation) -> Scores | None:
    arrays, classes = evaluation.arrays, len(evaluation.class_names)
    label, log_odds = arrays["label"], arrays.get("log_odds")
    if log_odds is None and "predicted" not in arrays:
        return None
    answer = arrays["predicted"] if log_odds is None else _answers(evaluation, log_odds, several=False)
    truth, answers = _Summed(label, classes), _Summed(answer, classes)
    right = _Summed(np.where(answer == label, label, classes), classes)
    hit5 = _in_first_five(log_odds, label) if log_odds is not None and classes > 5 else None
    ranked = None
    if log_odds is not None and log_odds.size <= RANKED:
        ranked = _Ranked(log_odds, label[:, None] == np.arange(classes))

    def scores(weights: np.ndarray) -> dict[str, np.ndarray]:
        total = weights.sum(0)
        hits, rows, columns = right(weights), truth(weights), answers(weights)
        recall, precision = hits / rows, hits / columns
        f1 = 2 * hits / (rows + columns)
        found = {
            "accuracy": hits.sum(0) / total,
            "balanced_accuracy": _mean(recall),
            "f1": _mean(f1),
            **{"precision_per_class": precision, "recall_per_class": recall, "f1_per_class": f1},
        }
        if hit5 is not None:
            found["top5"] = hit5 @ weights / total
        return found | (ranked(weights) if ranked else {})

    return scores


def _answers(evaluation: Evaluation, log_odds: np.ndarray, *, several: bool) -> np.ndarray:
    """With the thresholds that the model had."""
    given = evaluation.meta.get("thresholds")
    wanted = log_odds.shape[1] if several else 1
    usable = isinstance(given, list) and len(given) == wanted and all(type(x) in (int, float) for x in given)
    return answers_of(log_odds, given if usable else None, several=several)


def _multi_label(evaluation: Evaluation) -> Scores | None:
    yes, log_odds = evaluation.arrays["label"].astype(bool), evaluation.arrays.get("log_odds")
    answer = evaluation.arrays.get("predicted")
    if log_odds is not None:
        answer = _answers(evaluation, log_odds, several=True)
    if answer is None or answer.shape != yes.shape:
        return None
    right = (answer & yes).T.astype(np.float64)
    truth, answers = yes.T.astype(np.float64), answer.T.astype(np.float64)
    ranked = _Ranked(log_odds, yes) if log_odds is not None and log_odds.size <= RANKED else None

    def scores(weights: np.ndarray) -> dict[str, np.ndarray]:
        total = weights.sum(0)
        tp, rows, columns = right @ weights, truth @ weights, answers @ weights
        tn = total - rows - columns + tp
        recall, precision = tp / rows, tp / columns
        f1 = 2 * tp / (rows + columns)
        found = {
            "accuracy": (tp + tn).sum(0) / (total * len(tp)),
            "balanced_accuracy": _mean((recall + tn / (total - rows)) / 2),
            "f1": _mean(f1),
            **{"precision_per_class": precision, "recall_per_class": recall, "f1_per_class": f1},
        }
        return found | (ranked(weights) if ranked else {})

    return scores


def _segmentation(evaluation: Evaluation) -> Scores:
    names = ("hits", "truth", "predicted")
    hits, truth, predicted = (evaluation.arrays[name].T.astype(np.float64) for name in names)
    first = 1 if len(hits) == 2 else 0  # two classes: without the background

    def scores(weights: np.ndarray) -> dict[str, np.ndarray]:
        found, rows, columns = hits @ weights, truth @ weights, predicted @ weights
        iou, dice = found / (rows + columns - found), 2 * found / (rows + columns)
        return {
            "iou": _mean(iou[first:]),
            "dice": _mean(dice[first:]),
            "accuracy": found.sum(0) / rows.sum(0),
            **{"iou_per_class": iou, "dice_per_class": dice},
        }

    return scores


def _cropping(evaluation: Evaluation) -> Scores:
    iou, has_box = evaluation.arrays["iou"].astype(np.float64), evaluation.arrays["has_box"].astype(bool)
    there = has_box.astype(np.float64)
    overlap = np.where(has_box, iou, 0.0)
    at_50, at_75 = overlap >= 0.5, overlap >= 0.75
    order = _Order(evaluation.arrays["confidence"], has_box)

    def scores(weights: np.ndarray) -> dict[str, np.ndarray]:
        objects = there @ weights
        return {
            "box_iou": overlap @ weights / objects,
            "box_iou_50": at_50.astype(np.float64) @ weights / objects,
            "box_iou_75": at_75.astype(np.float64) @ weights / objects,
            "confidence_auroc": np.broadcast_to(order.rank(weights)[0], objects.shape),
        }

    return scores


class _Summed:
    """Sums of weights by class: (N, R) -> (K, R). Class numbers outside 0..K-1 are left out."""

    def __init__(self, number: np.ndarray, classes: int) -> None:
        self.classes = classes
        self.order = np.argsort(number, kind="stable")
        ends = np.searchsorted(number[self.order], np.arange(classes + 1))
        self.order = self.order[ends[0] : ends[-1]]
        self.starts = ends[:-1] - ends[0]
        self.there = np.diff(ends) > 0

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        sums = np.zeros((self.classes, weights.shape[1]))
        if len(self.order):
            sums[self.there] = np.add.reduceat(weights[self.order], self.starts[self.there], axis=0)
        return sums


class _Ranked:
    """AUROC and average precision of each class with weights, exact with ties (`metrics.ranking`)."""

    def __init__(self, score: np.ndarray, positive: np.ndarray) -> None:
        self.classes = [_Order(score[:, k], positive[:, k]) for k in range(score.shape[1])]

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        auroc, precision = np.full((2, len(self.classes), weights.shape[1]), np.nan)
        for number, order in enumerate(self.classes):
            auroc[number], precision[number] = order.rank(weights)
        return {
            "auroc": _mean(auroc),
            "average_precision": _mean(precision),
            "auroc_per_class": auroc,
            "average_precision_per_class": precision,
        }


class _Order:
    """Samples in the order of a score, cut into pieces: equal scores with a positive, and all that lies between them.

    Only the positives' places in the order matter, and they are few where there are many classes.
    """

    def __init__(self, score: np.ndarray, positive: np.ndarray) -> None:
        self.absent = bool(np.isnan(score).any()) or not positive.any()
        self.order = np.argsort(score, kind="stable")
        positive, score = positive[self.order], score[self.order]
        start = np.r_[True, score[1:] != score[:-1]]  # of equal scores
        value = start.cumsum() - 1
        found = np.bincount(value, positive) > 0  # values with a positive
        cut = found | np.r_[True, found[:-1]]
        self.starts = np.flatnonzero(start)[cut]
        self.holds = found[cut]
        piece = cut.cumsum() - 1
        self.own_order = self.order[positive]
        self.own_starts = np.flatnonzero(np.diff(piece[value[positive]], prepend=-1))

    def rank(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray] | tuple[float, float]:
        """AUROC and average precision in each resample, (R,) each; weights (N, R)."""
        if self.absent:
            return np.nan, np.nan
        drawn = np.add.reduceat(weights[self.order], self.starts, axis=0)
        own = np.add.reduceat(weights[self.own_order], self.own_starts, axis=0)
        upto, upto_own = drawn.cumsum(0), own.cumsum(0)
        total, found = upto[-1], upto_own[-1]
        drawn, upto = drawn[self.holds], upto[self.holds]
        below = (
            upto - upto_own - (drawn - own) / 2
        )  # negatives with a lower score, and half of the equal ones
        auroc = (own * below).sum(0, dtype=np.float64) / (found.astype(np.float64) * (total - found))
        at_least, at_least_own = total - upto + drawn, found - upto_own + own
        # a value that was not drawn weighs nothing, also where nothing above it was
        share = np.divide(at_least_own, at_least, out=np.zeros_like(at_least), where=at_least > 0)
        return auroc, (own * share).sum(0, dtype=np.float64) / found


def _in_first_five(log_odds: np.ndarray, label: np.ndarray) -> np.ndarray:
    own = np.take_along_axis(log_odds, label[:, None], axis=1)
    before = np.arange(log_odds.shape[1]) < label[:, None]
    rank = (~(log_odds <= own) | ((log_odds == own) & before)).sum(1)
    return (rank < 5).astype(np.float64)


def _mean(values: np.ndarray) -> np.ndarray:
    """The mean over classes (K, R) -> (R,) of those that are there; NaN where none is."""
    there = ~np.isnan(values)
    return np.where(there, values, 0.0).sum(0) / there.sum(0)
