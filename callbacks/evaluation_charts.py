"""Charts of each validation for the loggers: confusion, classes, calibration, precision and recall."""

import io
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image
from torch import Tensor

from callbacks.picture_loggers import log_picture
from figures import (
    MOST_CURVES,
    class_chart,
    confusion_chart,
    precision_recall_chart,
    reliability_chart,
    to_png,
)
from metrics import precision_recall, ranking

__all__ = ["EvaluationCharts"]


class EvaluationCharts(Callback):
    """Logs ``charts/confusion``, ``charts/classes``, ``charts/calibration`` and ``charts/precision_recall`` of a fit's
    validations, as far as the task has them.
    """

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw what the validation found."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        found: dict[str, Tensor] = pl_module.evaluated  # pyright: ignore[reportAssignmentType]
        names = list(pl_module.class_names or [])  # pyright: ignore[reportArgumentType]
        for name, make in charts_of(found, names).items():
            draw = partial(_picture, make)
            log_picture(trainer, f"charts/{name}", draw, part="val", photo=False)


def charts_of(found: Mapping[str, Tensor], names: Sequence[str]) -> dict[str, Callable[[], Any]]:
    """What makes each chart that an evaluation's values allow: matplotlib figures, by name."""
    charts: dict[str, Callable[[], Any]] = {}
    if "confusion" in found:
        charts["confusion"] = partial(confusion_chart, found["confusion"].numpy(), names)
    columns = {
        title: found[f"{key}_per_class"].numpy()
        for key, title in (("iou", "IoU"), ("precision", "precision"), ("recall", "recall"))
        if f"{key}_per_class" in found
    }
    if columns:
        charts["classes"] = partial(class_chart, names, columns)
    if "reliability" in found:
        error = float(found["calibration_error"])
        charts["calibration"] = partial(reliability_chart, found["reliability"].numpy(), error)
    if "log_odds" in found:
        charts["precision_recall"] = partial(_precision_recall, found, names)
    if "has_box" in found and bool(found["has_box"].any()) and not bool(found["has_box"].all()):
        score, positive = found["confidence"].numpy(), found["has_box"].numpy()
        recall, precision = precision_recall(score, positive)
        _, area = ranking(score, positive)
        charts["precision_recall"] = partial(
            precision_recall_chart, [("there is an object", recall, precision, area)]
        )
    return charts


def _precision_recall(found: Mapping[str, Tensor], names: Sequence[str]) -> Any:
    """The curves of the classes with the lowest average precision, which are of interest where there are many."""
    areas = found["average_precision_per_class"].numpy()
    present = [int(number) for number in np.argsort(areas) if not np.isnan(areas[number])]
    label, log_odds = found["label"].numpy(), found["log_odds"].numpy()
    curves: list[tuple[str, np.ndarray, np.ndarray, float]] = []
    for number in sorted(present[:MOST_CURVES]):
        positive = label[:, number] if label.ndim == 2 else label == number
        recall, precision = precision_recall(log_odds[:, number], positive)
        curves.append((names[number], recall, precision, float(areas[number])))
    return precision_recall_chart(
        curves, left_out=len(present) - len(curves), absent=len(areas) - len(present)
    )


def _picture(make: Callable[[], Any]) -> Image.Image:
    return Image.open(io.BytesIO(to_png(make())))
