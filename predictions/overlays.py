"""The picture with the prediction drawn on it, as a JPEG."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from figures import Answer, draw_answer

__all__ = ["answer_of", "write_overlay"]


def answer_of(prediction: Mapping[str, Any], *, threshold: float) -> Answer:
    """What docs/batch.md calls a prediction as something to draw.

    Args:
        prediction: Of any task.
        threshold: From which confidence on an object was found.
    """
    row, seen = prediction["row"], prediction.get("seen")
    if "mask" in prediction:
        return Answer(mask=prediction["mask"], seen=seen)
    if "x1" in row:
        x1, y1, x2, y2 = (float(row[key]) for key in ("x1", "y1", "x2", "y2"))
        confidence = float(row["confidence"])
        return Answer(box=(x1, y1, x2, y2), confidence=confidence, found=confidence >= threshold)
    probs = [(name.removeprefix("prob_"), value) for name, value in row.items() if name.startswith("prob_")]
    several = str(row.get("labels", ""))
    labels = (str(row["label"]),) if "label" in row else tuple(name for name in several.split(";") if name)
    return Answer(labels=labels, probs=tuple(sorted(probs, key=lambda entry: -entry[1])), seen=seen)


def write_overlay(file: Path, image: np.ndarray, answer: Answer, class_names: Sequence[str]) -> None:
    """A JPEG of at most 1600 pixels.

    Args:
        file: Where to.
        image: (H, W, 3) uint8, upright.
        answer: What the model says of it.
        class_names: In the order of the class numbers.
    """
    draw_answer(image, answer, class_names).save(file, quality=90)
