"""Whether the calibration in a checkpoint's card is one: a file may hold anything."""

from collections.abc import Mapping
from typing import Any

__all__ = ["wrong_calibration"]

#: Beyond, a division makes nothing of logits that float32 can hold.
_LOWEST, _HIGHEST = 1e-3, 1e3


def wrong_calibration(card: Mapping[str, Any], *, cropper: bool) -> str:
    """The first thing in ``card["calibration"]`` that is not as Loupe writes it, "" where all is, or there is none.

    Args:
        card: With class names that are a list of texts.
        cropper: Its one threshold is of the confidence, whatever the classes.
    """
    given = card.get("calibration")
    if given is None:
        return ""
    if (
        not isinstance(given, Mapping)
        or not {"temperature", "thresholds", "metric", "figures"} <= given.keys()
    ):
        return "calibration is no mapping of temperature, thresholds, metric and figures"
    temperature, thresholds, figures = given["temperature"], given["thresholds"], given["figures"]
    if type(temperature) not in (int, float) or not _LOWEST <= temperature <= _HIGHEST:
        return f"calibration: temperature is {temperature!r}"
    if not isinstance(given["metric"], str):
        return f"calibration: metric is {given['metric']!r}"
    if not isinstance(figures, Mapping) or not all(isinstance(name, str) for name in figures):
        return "calibration: figures is no mapping of names to values"
    if thresholds is None:
        return ""
    if not isinstance(thresholds, list | tuple) or not all(
        type(value) in (int, float) and 0 <= value <= 1 for value in thresholds
    ):
        return f"calibration: thresholds is {thresholds!r}, no list of numbers from 0 to 1"
    classes = len(card["class_names"])
    wanted = classes if card.get("multi_label") else 1 if cropper or classes <= 2 else 0
    if len(thresholds) != wanted:
        return f"calibration: it has {len(thresholds)} thresholds, and {wanted} can be used"
    return ""
