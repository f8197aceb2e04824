"""What `calibrate` tells on the terminal."""

from typing import Any

from lightning_modules.calibration import Calibration

__all__ = ["calibration_lines"]

_MOST_ROWS = 30


def calibration_lines(calibration: Calibration) -> list[str]:
    """What was found, before and after, a line each: the temperature, the thresholds, and what to beware of.

    Args:
        calibration: From `run_calibration`, or of a checkpoint that has one.
    """
    figures = calibration.figures
    lines = [f"calibration, from {figures['pictures']:,} validation pictures ({figures['part']})"]
    lines += [f"  temperature {calibration.temperature:.4g}"]
    lines += [
        f"  {'':<24}{'before':>10}{'after':>10}{'on others':>12}",
        _row(
            "neg. log likelihood",
            *(figures[f"nll_{when}"] for when in ("before", "after", "cross_validated")),
        ),
        _row(
            "calibration error", figures["calibration_error_before"], figures["calibration_error_after"], None
        ),
    ]
    if calibration.thresholds is not None:
        lines += _threshold_lines(calibration.thresholds, calibration.metric, figures)
    lines += [f"  note: {note}" for note in figures["notes"]]
    return lines


def _threshold_lines(thresholds: tuple[float, ...], metric: str, figures: Any) -> list[str]:
    lines = [f"  thresholds for {metric}"]
    name_of = metric.split(" ")[0]
    lines += [f"  {'':<24}{'threshold':>10}{f'{name_of} before':>26}{'after':>10}{'on others':>12}"]
    columns = (figures[f"metric_{when}"] for when in ("before", "after", "cross_validated"))
    rows = list(zip(figures["names"], thresholds, *columns, strict=True))
    for name, threshold, *scores in rows[:_MOST_ROWS]:
        before, after, others = map(_shown, scores)
        lines.append(f"  {_cut(name):<24}{threshold:>10.4f}{before:>26}{after:>10}{others:>12}")
    left = len(rows) - _MOST_ROWS
    return lines + ([f"  and {left} more, in the checkpoint"] if left > 0 else [])


def _row(name: str, *values: float | None) -> str:
    before, after, others = map(_shown, values)
    return f"  {name:<24}{before:>10}{after:>10}{others:>12}".rstrip()


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _cut(text: str) -> str:
    return text if len(text) <= 23 else f"{text[:22]}…"
