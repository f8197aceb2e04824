"""Curves of probabilities: precision against recall, and how often an answer of some confidence is right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from figures.canvas import DASHES, INK, SERIES, amount, drawing, finished, frame, legend_above
from figures.lettering import shorten

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.ticker import Locator

__all__ = ["MOST_CURVES", "precision_recall_chart", "reliability_chart"]

MOST_CURVES = 8
_MOST_POINTS = 400


def reliability_chart(table: np.ndarray, error: float) -> Figure:
    """How often answers are right, by the probability they were given with; below, how many there are of each.

    Args:
        table: (bins, 3) of equal bins over 0..1: answers, how many of them are right, sum of their probabilities.
        error: The expected calibration error, 0..1; NaN = absent.
    """
    answers, right, confidence = np.asarray(table, np.float64).T
    bins = len(answers)
    some = answers > 0
    said, found = confidence[some] / answers[some], right[some] / answers[some]
    total = float(answers.sum())
    verdict = f"expected calibration error {error:.3f}" if np.isfinite(error) else "no calibration error"
    with drawing():
        figure, axes = frame(
            f"Reliability: {verdict}",
            f"{amount(total)} answers. A bar below the dashed line: surer than right.",
            height=2.6,
            left=0.72,
            bottom=1.2,
            legend=True,
        )
        middles = (np.arange(bins) + 0.5) / bins
        axes.bar(
            middles[some], found, width=0.9 / bins, color=SERIES[0], alpha=0.75, linewidth=0, label="right"
        )
        axes.plot(
            said, found, linestyle="none", marker="o", markersize=4, color=SERIES[1], label="mean probability"
        )
        axes.plot((0, 1), (0, 1), color=INK, linestyle="--", linewidth=1.2, label="as sure as right")
        axes.set_ylim(0, 1.02)
        axes.set_ylabel("share that is right")
        axes.grid()
        legend_above(axes)
        place = axes.get_position()
        scale = place.height / 2.6
        below = figure.add_axes((place.x0, 0.5 * scale, place.width, 0.55 * scale), sharex=axes)
        below.bar(
            middles, answers / total if total else answers, width=0.9 / bins, color=SERIES[6], linewidth=0
        )
        below.set_ylim(0, None)
        below.set_ylabel("answers")
        below.set_xlabel("probability of the answer")
        below.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
        below.yaxis.set_major_locator(_few_ticks())
        below.set_xlim(0, 1)
        axes.tick_params(labelbottom=False)
        return finished(figure)


def _few_ticks() -> Locator:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(2)


def precision_recall_chart(
    curves: Sequence[tuple[str, np.ndarray, np.ndarray, float]], *, left_out: int = 0, absent: int = 0
) -> Figure:
    """Precision against recall.

    Args:
        curves: Class, recall (N,), precision (N,), average precision (NaN: the class is absent).
        left_out: Classes with a higher average precision than these, for which there are no curves.
        absent: Absent classes that are not among ``curves``.

    Of more than `MOST_CURVES` classes, those with the lowest average precision are drawn; the title says so.
    """
    known = [curve for curve in curves if np.isfinite(curve[3]) and len(curve[1])]
    absent += len(curves) - len(known)
    chosen = known
    notes: list[str] = []
    if len(known) > MOST_CURVES:
        chosen = sorted(known, key=lambda curve: curve[3])[:MOST_CURVES]
    if len(known) + left_out > len(chosen):
        notes.append(
            f"The {len(chosen)} of {len(known) + left_out} classes with the lowest average precision."
        )
    if absent:
        notes.append(f"{absent} {'class is' if absent == 1 else 'classes are'} absent.")
    with drawing():
        rows = len(chosen)
        figure, axes = frame(
            "Precision and recall", " ".join(notes), height=2.9, left=0.72, bottom=0.62 + 0.19 * max(rows, 1)
        )
        for number, (name, recall, precision, average) in enumerate(chosen):
            x, y = _thinned(np.asarray(recall, np.float64), np.asarray(precision, np.float64))
            axes.plot(
                x,
                y,
                drawstyle="steps-pre",
                color=SERIES[number % len(SERIES)],
                linestyle=DASHES[number % len(DASHES)],
                label=f"{shorten(name, 40)}: average precision {average:.3f}",
            )
        if not chosen:
            axes.text(0.5, 0.5, "no class is there", transform=axes.transAxes, ha="center", alpha=0.75)
        axes.set_xlim(0, 1.005)
        axes.set_ylim(0, 1.02)
        axes.set_xlabel("recall: share of the class that is found")
        axes.set_ylabel("precision: share of the finds that is right")
        axes.grid()
        if chosen:
            axes.legend(
                loc="upper left", bbox_to_anchor=(-0.02, -0.5 / 2.9), borderaxespad=0, handlelength=3.2
            )
        return finished(figure)


def _thinned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Few enough points to draw: those of the most recalls that can be told apart, ends and steps kept."""
    if len(x) <= _MOST_POINTS:
        return x, y
    cells = np.floor(np.clip(x, 0, 1) * (_MOST_POINTS / 2)).astype(np.int64)
    begins = np.flatnonzero(np.diff(cells)) + 1
    kept = np.unique(np.concatenate([[0], begins - 1, begins, [len(x) - 1]]))
    return x[kept], y[kept]
