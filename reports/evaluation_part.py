"""What a page tells of one evaluation: scores, classes, confusion, calibration, and the worst pictures."""

import math
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch

from figures import confusion_chart, precision_recall_chart, reliability_chart
from metrics.calibration import bin_confidence, calibration_error
from reports.bootstrap import Interval, intervals
from reports.drawings import Drawing, draw, within_budget
from reports.run_files import Evaluation
from reports.score_names import score_title, unit_of_count
from reports.weighted_scores import RANKED, score_function

__all__ = ["Estimate", "EvaluationPart", "evaluation_part", "scored_intervals", "short"]

_CLASSES, _CURVES, _PAIRS = 200, 8, 10
#: What is on the worst pictures of a task, where that does not show.
_PANELS = {
    "segmentation": "Each: the picture, the truth, the prediction, and the errors (right blue, missed orange, false "
    "alarm pink, another class white, void hatched grey).",
    "cropping": "The true box is blue and drawn through, the predicted one orange and dashed.",
}
_CLASS_SCORES = ("iou", "boundary_iou", "dice", "recall", "precision", "f1", "average_precision", "auroc")
_STAGES = {"test": "Test", "val": "Validation"}


@dataclass(frozen=True)
class Estimate:
    """A score with its interval; NaN where absent."""

    name: str
    value: float
    low: float = math.nan
    high: float = math.nan

    @property
    def title(self) -> str:
        """Its name for the eye."""
        return score_title(self.name)[0]

    @property
    def meaning(self) -> str:
        """What it is, in a few words."""
        return score_title(self.name)[1]

    @property
    def shown(self) -> str:
        """To four places, a dash where absent."""
        return "–" if math.isnan(self.value) else f"{self.value:.4f}"

    @property
    def interval(self) -> str:
        """Both ends, or an empty text."""
        return "" if math.isnan(self.low) else f"{self.low:.3f} to {self.high:.3f}"


@dataclass
class EvaluationPart:
    """One evaluation, ready for the template."""

    stage: str
    title: str
    about: str
    scores: list[Estimate]
    columns: list[str] = field(default_factory=list)
    unit: str = ""
    classes: list[tuple[str, str, list[Estimate]]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    class_note: str = ""
    drawings: list[Drawing] = field(default_factory=list)
    pairs: list[tuple[str, str, int, float]] = field(default_factory=list)
    overlaps: list[tuple[str, int, float]] = field(default_factory=list)
    worst: list[dict[str, str | None]] = field(default_factory=list)
    worst_note: str = ""
    panels: str = ""
    tile_px: int = 240

    @property
    def detailed(self) -> bool:
        """Whether there is more to show than scores."""
        return bool(self.drawings or self.pairs or self.overlaps or self.worst)

    def score(self, name: str | None) -> Estimate | None:
        """The score of a name, or None."""
        return next((estimate for estimate in self.scores if estimate.name == name), None)


def scored_intervals(evaluation: Evaluation) -> dict[str, Interval]:
    """The bootstrap intervals of an evaluation's scores; empty where its pictures' results were not kept."""
    scores = score_function(evaluation)
    if scores is None:
        return {}
    return intervals(scores, len(evaluation.arrays["index"]), evaluation.arrays.get("group"))


def evaluation_part(
    evaluation: Evaluation, *, epoch: int | None, picture_budget: int, charts: bool = True
) -> EvaluationPart:
    """All of an evaluation of an epoch's weights; pictures take at most ``picture_budget`` characters of the page."""
    found = scored_intervals(evaluation)
    part = EvaluationPart(
        evaluation.stage,
        _STAGES.get(evaluation.stage, evaluation.stage),
        _about(evaluation, epoch),
        [_estimate(name, value, found.get(name)) for name, value in evaluation.scores.items()],
        unit=unit_of_count(evaluation.task),
        tile_px=480 if evaluation.task == "segmentation" else 220,  # four panels side by side
    )
    part.notes = _interval_notes(evaluation, found)
    _add_classes(part, evaluation, found)
    if charts:
        _add_confusion(part, evaluation)
        _add_calibration(part, evaluation)
        _add_curves(part, evaluation)
    _add_overlaps(part, evaluation)
    _add_worst(part, evaluation, picture_budget)
    return part


def _about(evaluation: Evaluation, epoch: int | None) -> str:
    meta = evaluation.meta
    words = [f"{evaluation.samples:,} pictures"]
    words += [f"weights of epoch {epoch}"] if epoch is not None else []
    words += [PurePath(str(meta["checkpoint"])).name] if meta.get("checkpoint") else []
    words += [str(meta["date"]).replace("T", " ")[:16]] if meta.get("date") else []
    return " · ".join(words)


def _estimate(name: str, value: float, interval: Interval | None, number: int | None = None) -> Estimate:
    if interval is None or math.isnan(value):
        return Estimate(name, value)
    ends = (interval.low, interval.high) if number is None else (interval.low[number], interval.high[number])
    return Estimate(name, value, *map(float, ends))


def _interval_notes(evaluation: Evaluation, found: dict[str, Interval]) -> list[str]:
    if not found:
        return [
            "There are no intervals: the results of single pictures were not kept, or there are fewer than two."
        ]
    group = evaluation.arrays.get("group")
    units = f"{len(np.unique(group)):,} groups" if group is not None else f"{evaluation.samples:,} pictures"
    why = ", since pictures of one group are not independent of each other" if group is not None else ""
    notes = [
        f"Intervals: 95 %, percentile bootstrap, 1000 resamples of the {units}{why}. They tell how far a score may be "
        f"off because the part could have been other pictures of the same kind; not what another training would give."
    ]
    log_odds = evaluation.arrays.get("log_odds")
    if log_odds is not None and log_odds.size > RANKED:
        notes.append(
            f"AUROC and average precision have no intervals above {RANKED:,} pictures times classes."
        )
    return notes


def _add_classes(part: EvaluationPart, evaluation: Evaluation, found: dict[str, Interval]) -> None:
    columns, names = evaluation.per_class, evaluation.class_names
    kept = [name for name in _CLASS_SCORES if len(columns.get(name, ())) == len(names)]
    if not kept:
        return
    counts = columns.get("count", [math.nan] * len(names))
    order = range(len(names))
    if len(names) > _CLASSES:
        lowest = columns[kept[0]]
        order = sorted(order, key=lambda k: (math.isnan(lowest[k]), lowest[k]))[:_CLASSES]
        part.class_note = (
            f"The {_CLASSES} classes with the lowest {score_title(kept[0])[0]} of {len(names):,}."
        )
    part.columns = [score_title(name)[0] for name in kept]
    for k in order:
        scores = [_estimate(name, columns[name][k], found.get(f"{name}_per_class"), k) for name in kept]
        count = "–" if k >= len(counts) or math.isnan(counts[k]) else f"{int(counts[k]):,}"
        part.classes.append((short(names[k]), count, scores))


def _add_confusion(part: EvaluationPart, evaluation: Evaluation) -> None:
    confusion, names = evaluation.arrays.get("confusion"), evaluation.class_names
    if confusion is None or confusion.shape != (len(names),) * 2 or not confusion.sum():
        return
    rows = confusion.sum(1)
    wrong = confusion * (1 - np.eye(len(names)))
    ranked = np.argsort(wrong, axis=None, kind="stable")[::-1][:_PAIRS]
    worst = [np.unravel_index(at, wrong.shape) for at in ranked]
    part.pairs = [
        (short(names[i]), short(names[j]), int(wrong[i, j]), float(wrong[i, j] / rows[i]))
        for i, j in worst
        if wrong[i, j] > 0 and len(names) > 2
    ]
    right = confusion.trace() / confusion.sum()
    text = f"Rows are the truth, columns the prediction; {right:.1%} of {part.unit} lie on the diagonal."
    if part.pairs:
        truth, answer, count, _ = part.pairs[0]
        text += f" The largest error: {truth} taken for {answer}, {count:,} {part.unit}."
    labels = [short(name, 30) for name in names]
    part.drawings.append(draw(confusion_chart(confusion, labels), "Confusion matrix", text, text))


def _add_calibration(part: EvaluationPart, evaluation: Evaluation) -> None:
    table = evaluation.arrays.get("reliability")
    what = "the answer" if not evaluation.meta.get("multi_label") else "each yes or no"
    if table is None and evaluation.task == "cropping" and _both_kinds(evaluation):
        logit, truth = (torch.from_numpy(evaluation.arrays[name]) for name in ("confidence", "has_box"))
        table = bin_confidence(logit.double().abs().sigmoid(), (logit > 0) == truth.bool()).numpy()
        what = "the answer that there is an object, or none,"
    if table is None or table.ndim != 2 or table.shape[1] != 3 or not table[:, 0].sum():
        return
    error = float(calibration_error(torch.from_numpy(np.asarray(table, np.float64))))
    gap = (table[:, 2].sum() - table[:, 1].sum()) / table[:, 0].sum()
    mood = "too sure" if gap > 0 else "too cautious"
    text = (
        f"How often {what} is right at each confidence. Expected calibration error {error:.3f}; on the whole "
        f"{mood} by {abs(gap):.3f}."
    )
    part.drawings.append(draw(reliability_chart(table, error), "Calibration", text, text))


def _add_curves(part: EvaluationPart, evaluation: Evaluation) -> None:
    curves, left_out = _curves(evaluation)
    if not curves:
        return
    caption = "Precision against recall as the threshold moves."
    if left_out:
        shown = len(curves)
        caption += f" The {shown} classes with the lowest average precision of {shown + left_out}."
    each = "; ".join(f"{name} {average:.3f}" for name, _, _, average in curves)
    text = f"{caption} Average precision: {each}."
    part.drawings.append(draw(precision_recall_chart(curves), "Precision and recall", text, caption))


def _curves(evaluation: Evaluation) -> tuple[list[tuple[str, np.ndarray, np.ndarray, float]], int]:
    arrays, names = evaluation.arrays, evaluation.class_names
    if evaluation.task == "cropping" and _both_kinds(evaluation):
        return [("object", *_curve(arrays["confidence"], arrays["has_box"].astype(bool)))], 0
    scores, label = arrays.get("log_odds"), arrays.get("label")
    if scores is None or label is None or scores.shape != (len(label), len(names)):
        return [], 0
    truths = [label == k if label.ndim == 1 else label[:, k].astype(bool) for k in range(len(names))]
    listed = evaluation.per_class.get("average_precision", [])
    there = [k for k, truth in enumerate(truths) if truth.any() and not np.isnan(scores[:, k]).any()]
    if len(there) > _CURVES and len(listed) == len(names):
        there = sorted(there, key=lambda k: listed[k])
    shown = sorted(there[:_CURVES])
    return [(short(names[k], 30), *_curve(scores[:, k], truths[k])) for k in shown], len(there) - len(shown)


def _curve(score: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Recall, precision at up to 200 thresholds, and the average precision over all."""
    order = np.argsort(-score, kind="stable")
    last = np.flatnonzero(np.r_[np.diff(score[order]) != 0, True])  # of equal scores
    hits = positive[order].cumsum()[last]
    recall, precision = hits / hits[-1], hits / (last + 1)
    average = float((np.diff(recall, prepend=0.0) * precision).sum())
    kept = np.unique(np.linspace(0, len(last) - 1, min(200, len(last))).round().astype(int))
    return recall[kept], precision[kept], average


def _both_kinds(evaluation: Evaluation) -> bool:
    has_box = evaluation.arrays.get("has_box")
    return has_box is not None and "confidence" in evaluation.arrays and 0 < has_box.sum() < len(has_box)


def _add_overlaps(part: EvaluationPart, evaluation: Evaluation) -> None:
    iou, has_box = evaluation.arrays.get("iou"), evaluation.arrays.get("has_box")
    if evaluation.task != "cropping" or iou is None or has_box is None or not has_box.any():
        return
    counts, _ = np.histogram(iou[has_box.astype(bool)].clip(0, 1), bins=10, range=(0, 1))
    part.overlaps = [
        (f"{b / 10:.1f} to {(b + 1) / 10:.1f}", int(counts[b]), 100 * float(counts[b] / counts.max()))
        for b in range(9, -1, -1)
    ]


def _add_worst(part: EvaluationPart, evaluation: Evaluation, budget: int) -> None:
    uris = within_budget(evaluation.pictures[:24], budget)
    listed: list[dict[str, Any]] = list(evaluation.meta.get("worst") or [])[: len(uris)]
    part.worst = [
        {
            "uri": uri,
            "file": Path(str(one.get("file", ""))).name,
            "caption": short(str(one.get("caption", ""))),
        }
        for uri, one in zip(uris, listed, strict=False)
    ]
    left_out = sum(uri is None for uri in uris)
    chosen_by = str(evaluation.meta.get("description") or "")
    words = f"The worst by {chosen_by}." if chosen_by else ""
    part.panels = _PANELS.get(evaluation.task, "")
    part.worst_note = words + (f" {left_out} are left out to keep the page small." if left_out else "")


def short(text: str, length: int = 100) -> str:
    """A name for the page: class names may be of any length."""
    return text if len(text) <= length else f"{text[: length - 1]}…"
