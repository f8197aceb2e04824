"""Reliability before and after a calibration, in one picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from figures.canvas import DASHES, INK, SERIES, amount, drawing, finished, frame, legend_above

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["calibration_chart"]


def calibration_chart(before: np.ndarray, after: np.ndarray, errors: tuple[float, float]) -> Figure:
    """How often answers are right at each mean probability, two lines; the nearer to the diagonal, the better.

    Args:
        before: (bins, 3) of equal bins over 0..1: answers, how many of them are right, sum of their probabilities.
        after: The same of the calibrated probabilities.
        errors: Expected calibration errors, before and after, 0..1.

    The larger a point, the more answers it stands for.
    """
    tables = [np.asarray(table, np.float64) for table in (before, after)]
    total = float(tables[0][:, 0].sum())
    with drawing():
        figure, axes = frame(
            f"Calibration error {errors[0]:.3f} before, {errors[1]:.3f} after",
            f"{amount(total)} answers. A point below the dashed line: surer than right.",
            height=3.2,
            left=0.72,
            bottom=0.65,
            legend=True,
        )
        for number, (name, table) in enumerate(zip(("before", "after"), tables, strict=True)):
            answers, right, confidence = table[table[:, 0] > 0].T
            said, found = confidence / answers, right / answers
            color, dash = SERIES[number], DASHES[number]
            axes.plot(said, found, color=color, linestyle=dash, linewidth=1.4, label=name)
            axes.scatter(
                said, found, s=12 + 120 * answers / max(total, 1), color=color, alpha=0.6, linewidths=0
            )
        axes.plot((0, 1), (0, 1), color=INK, linestyle="--", linewidth=1.0, label="as sure as right")
        axes.set_xlim(0, 1.02)
        axes.set_ylim(0, 1.02)
        axes.set_xlabel("mean probability of the answers")
        axes.set_ylabel("share that is right")
        axes.grid()
        legend_above(axes)
        return finished(figure)
