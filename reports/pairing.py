"""Whether two evaluations are of the same pictures, and what the difference of their scores is worth then."""

from dataclasses import replace
from typing import Any

import numpy as np

from reports.bootstrap import RESAMPLES, Interval, interval, resamples
from reports.run_files import Evaluation
from reports.settings import flat_settings
from reports.weighted_scores import score_function

__all__ = ["FEWEST", "data_differences", "paired_intervals", "unpaired_reason"]

#: Independent pictures, or groups of them, below which "beyond chance" is said wrongly more than once in twenty times:
#: where nothing differs, 9 % of the intervals leave 0 out with 10 pictures, 5 % with 20 (box IoU, 200 simulated cases).
FEWEST = 20

# What may differ between two runs on the same pictures: how pictures are read and changed, not which they are.
_INPUT = {
    *("image_size", "augment", "loader", "predict_path"),
    *("read.resize", "read.interpolation", "read.in_channels", "read.value_range", "read.outside_root"),
}
_TRUTH = {"classification": "label", "segmentation": "truth", "cropping": "has_box"}


def data_differences(first: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """The settings of `data` that choose pictures, their split or their classes and differ between two configs."""
    one, two = (_chosen(config) for config in (first, other))
    return sorted(f"data.{key}" for key in one.keys() | two.keys() if one.get(key) != two.get(key))


def _chosen(config: dict[str, Any]) -> dict[str, Any]:
    data = config.get("data")
    settings = flat_settings(data.get("init_args") if isinstance(data, dict) else None)
    return {
        key: value
        for key, value in settings.items()
        if not any(key == name or key.startswith(f"{name}.") for name in _INPUT)
    }


def unpaired_reason(first: Evaluation, other: Evaluation) -> str:
    """Why the two cannot be compared picture by picture; "" where they can.

    The positions in the part must be the same, and what is true at each of them: labels, or whether there is an object,
    or each class's pixels (as shares of the picture, to 2 %, since pictures may have been read at another size).
    """
    if first.task != other.task:
        return f"one is {first.task}, the other {other.task}"
    if first.class_names != other.class_names:
        return "their classes differ"
    if score_function(first) is None or score_function(other) is None:
        return "the results of single pictures were not kept"
    one, two = _sorted(first), _sorted(other)
    if not np.array_equal(one.arrays["index"], two.arrays["index"]):
        return f"they scored other pictures ({first.samples:,} and {other.samples:,})"
    if not _equal(one.arrays.get("group"), two.arrays.get("group")):
        return "their groups differ"
    units = (
        len(one.arrays["index"]) if one.arrays.get("group") is None else len(np.unique(one.arrays["group"]))
    )
    if units < FEWEST:
        return f"{units} independent {'picture is' if units == 1 else 'pictures are'} too few to say, {FEWEST} are not"
    before, after = (evaluation.arrays[_TRUTH[first.task]] for evaluation in (one, two))
    if first.task == "segmentation":
        shares = [pixels / np.maximum(1, pixels.sum(1, keepdims=True)) for pixels in (before, after)]
        same = bool(np.allclose(shares[0], shares[1], atol=0.02))
    else:
        same = np.array_equal(before, after)
    return "" if same else "the truth of the same positions differs"


def _equal(one: np.ndarray | None, two: np.ndarray | None) -> bool:
    if one is None or two is None:
        return one is None and two is None
    return np.array_equal(one, two)


def paired_intervals(first: Evaluation, other: Evaluation) -> dict[str, Interval]:
    """95 % intervals of ``other``'s scores less ``first``'s, each resample drawing the same pictures for both.

    What is hard in a picture for both cancels, so that the interval is narrower than those of the two scores (Efron
    and Tibshirani 1993, chapter 13, of the difference). Only for evaluations without an `unpaired_reason`.
    """
    one, two = _sorted(first), _sorted(other)
    scores = score_function(one), score_function(two)
    assert scores[0] is not None and scores[1] is not None
    size, group = len(one.arrays["index"]), one.arrays.get("group")
    found: dict[str, list[np.ndarray]] = {}
    with np.errstate(divide="ignore", invalid="ignore"):
        for weights in resamples(size, group, count=RESAMPLES):
            before, after = (function(weights) for function in scores if function)
            for name in before.keys() & after.keys():
                found.setdefault(name, []).append(after[name] - before[name])
    return {name: interval(np.concatenate(values, axis=-1)) for name, values in found.items()}


def _sorted(evaluation: Evaluation) -> Evaluation:
    """In the order of the pictures' positions: several processes leave them in another."""
    order = np.argsort(evaluation.arrays["index"], kind="stable")
    of_pictures = {
        "index",
        "group",
        "label",
        "log_odds",
        "hits",
        "truth",
        "iou",
        "confidence",
        "has_box",
        "predicted",
    }
    arrays = {
        name: values[order] if name in of_pictures else values for name, values in evaluation.arrays.items()
    }
    return replace(evaluation, arrays=arrays)
