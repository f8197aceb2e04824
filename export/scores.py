"""The task's score, of answers as an exported model gives them."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_modules import LoupeModule
from lightning_modules.calibration import decide
from metrics import BoxScores

__all__ = ["METRICS", "Score", "decided"]

#: What a task learns: the name of its score.
METRICS = {"label": "accuracy", "mask": "iou", "box": "box_iou"}


class Score:
    """The task's score of answers."""

    def __init__(self, module: LoupeModule) -> None:
        self.module = module
        self.metric: Any = module.create_scores(list(module.class_names or []))
        self.name = METRICS[module.learns[0]]

    def add(
        self, answers: Mapping[str, np.ndarray], truth: Mapping[str, Tensor], size_hw: tuple[int, int]
    ) -> None:
        """Score the answers of one picture; boxes of the truth are in 0..1 of its size, pixels."""
        found = {name: torch.from_numpy(np.asarray(value)) for name, value in answers.items()}
        if isinstance(self.metric, BoxScores):
            box = truth["box"] * torch.tensor([size_hw[1], size_hw[0]] * 2, dtype=torch.float32)
            self.metric.update(found["box_xyxy_px"], found["confidence"], box, truth["has_box"])
        elif "mask" in found:
            self.metric.update(found["mask"].long(), truth["mask"].long())
        else:
            outputs = self.module.link.outputs(found["probs"])
            answer = decided(self.module, found["probs"])
            self.metric.update(outputs, truth["label"], answers=answer)

    def value(self) -> float | None:
        """Of all so far; None where no picture has what it judges."""
        score = float(self.metric.compute()[self.name])
        return None if math.isnan(score) else score


def decided(module: LoupeModule, probs: Tensor) -> Tensor:
    """The classes that probabilities (B, K) stand for, by the thresholds of the model's calibration."""
    return decide(module.link.outputs(probs), module.calibration.thresholds, several=module.multi_label)
