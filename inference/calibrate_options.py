"""The section `calibration:` of a config: what `calibrate` measures on validation data and keeps in the checkpoint."""

import math
from dataclasses import dataclass
from typing import Literal

from errors import LoupeError

__all__ = ["Calibrate", "Metric"]

Metric = Literal["accuracy", "balanced_accuracy", "f1", "iou", "dice", "precision", "recall"]


@dataclass
class Calibrate:
    """What `calibrate` measures on validation data; the checkpoint keeps it, `predict`, `test` and `export` use it.

    Attributes:
        temperature: Find what logits must be divided by for the probabilities to be right.
        metric: Choose thresholds, of two classes, of each of several labels, or of a box's confidence, that make this
            score best: accuracy, balanced_accuracy (Youden's J is twice it, less 1), f1, or of masks iou or dice;
            precision: the best recall of a precision of `at_least`; recall: the other way about. Null: no thresholds.
        at_least: The precision or the recall that is wanted, above 0, at most 1.
    """

    temperature: bool = True
    metric: Metric | None = None
    at_least: float | None = None

    def check(self) -> None:
        """Raise LoupeError where the options contradict each other, or ask for nothing."""
        if self.metric in ("precision", "recall"):
            if self.at_least is None:
                other = "recall" if self.metric == "precision" else "precision"
                raise LoupeError(
                    f"calibration.metric: {self.metric} alone is best where everything else is lost; say how much is "
                    f"wanted, as in --calibration.at_least=0.9, and the {other} is made best"
                )
            if not (math.isfinite(self.at_least) and 0 < self.at_least <= 1):
                raise LoupeError(
                    f"calibration.at_least: expected a number above 0, at most 1, got {self.at_least}"
                )
        elif self.at_least is not None:
            raise LoupeError(
                f"calibration.at_least is for the metrics precision and recall, and calibration.metric is "
                f"{self.metric or 'null'}; leave it out"
            )
        if not self.temperature and self.metric is None:
            raise LoupeError(
                "calibration: there is nothing to do, temperature is false and metric is null; set one of them"
            )
