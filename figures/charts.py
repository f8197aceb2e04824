"""Charts of scores: one bar a class, one line a part over the epochs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from figures.canvas import (
    DASHES,
    INK,
    SERIES,
    drawing,
    finished,
    frame,
    label_inches,
    legend_above,
    name_rows,
)
from figures.lettering import clean, shorten, shorten_apart

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["class_chart", "history_chart"]

_MOST_CLASSES = 24


def class_chart(
    class_names: Sequence[str],
    scores: Mapping[str, np.ndarray],
    intervals: Mapping[str, tuple[np.ndarray, np.ndarray]] | None = None,
) -> Figure:
    """Bars, a class a row, in the order of the classes.

    Args:
        class_names: K names.
        scores: What the bars are called, and (K,) values, NaN where the class is absent; at most three kinds.
        intervals: (low, high), (K,) each, of any of the scores, as whiskers.

    Of more than 24 classes, those with the lowest first scores are drawn, from the lowest up; the title says so.
    """
    columns = {clean(name): np.asarray(values, np.float64) for name, values in scores.items()}
    assert columns and all(len(values) == len(class_names) for values in columns.values())
    first = next(iter(columns))
    chosen = np.arange(len(class_names))
    note = ""
    if len(class_names) > _MOST_CLASSES:
        # NaN sorts last: absent classes are not among the lowest.
        chosen = np.argsort(columns[first], kind="stable")[:_MOST_CLASSES]
        note = (
            f"The {_MOST_CLASSES} lowest of {len(class_names)} classes by {first}; the others are left out."
        )
    if intervals:
        note = f"{note} Whiskers: confidence intervals.".strip()
    rows, kinds = len(chosen), len(columns)
    with drawing():
        labels = shorten_apart([class_names[int(number)] for number in chosen], 24)
        figure, axes = frame(
            f"{', '.join(columns)} of each class",
            note,
            height=max(rows * (0.08 + 0.15 * kinds), 0.4),
            left=min(label_inches(labels) + 0.2, 2.3),
            right=0.55,
            legend=kinds > 1,
        )
        thick = 0.78 / kinds
        high = 1.0
        written: list[tuple[float, float, float]] = []
        for kind, (name, values) in enumerate(columns.items()):
            places = np.arange(rows) + (kind - (kinds - 1) / 2) * thick
            shown = values[chosen]
            axes.barh(
                places,
                np.nan_to_num(shown),
                height=thick * 0.86,
                color=SERIES[kind % len(SERIES)],
                linewidth=0,
                label=name,
            )
            ends = np.fmax(np.nan_to_num(shown), _whiskers(axes, intervals, name, chosen, places))
            high = max(high, float(ends.max(initial=0)))
            written += zip(shown.tolist(), ends.tolist(), places.tolist(), strict=True)
        axes.set_ylim(rows - 0.45, -0.55)
        axes.set_xlim(0, high)
        _write_values(axes, written, high)
        name_rows(axes, labels)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(" / ".join(columns))
        axes.grid(axis="x")
        if kinds > 1:
            legend_above(axes)
        return finished(figure)


def _whiskers(
    axes: Axes,
    intervals: Mapping[str, tuple[np.ndarray, np.ndarray]] | None,
    name: str,
    chosen: np.ndarray,
    places: np.ndarray,
) -> np.ndarray:
    """Draw the intervals of one score; returns their upper ends, NaN where there is none."""
    for given, (low, high) in (intervals or {}).items():
        if clean(given) == name:
            low, high = (np.asarray(ends, np.float64)[chosen] for ends in (low, high))
            known = np.isfinite(low) & np.isfinite(high)
            axes.hlines(places[known], low[known], high[known], colors=INK, linewidth=1.1)
            for ends in (low, high):
                axes.plot(ends[known], places[known], linestyle="none", marker="|", markersize=4, color=INK)
            return high
    return np.full(len(chosen), np.nan)


def _write_values(axes: Axes, written: Sequence[tuple[float, float, float]], high: float) -> None:
    """Each (value, end, place) beside its bar; 'absent' where there is no value."""
    for value, end, place in written:
        absent = not math.isfinite(value)
        axes.text(
            (0.0 if absent else end) + 0.015 * high,
            place,
            "absent" if absent else f"{value:.3f}",
            va="center_baseline",
            fontsize=7.5,
            alpha=0.75 if absent else 1.0,
            style="italic" if absent else "normal",
        )


#: Lines that look the same in every chart, whatever else is there.
_OWN_STYLE = {"train": 0, "val": 1}


def history_chart(
    lines: Mapping[str, tuple[np.ndarray, np.ndarray]], *, title: str, best_x: float | None = None
) -> Figure:
    """Learning curves over the epochs.

    Args:
        lines: What each is called ("train", "val"), and its x and y, (N,) each; NaN interrupts a line.
        title: What y is, such as "loss".
        best_x: Marked with a dotted line.

    The y axis is logarithmic where all is positive, something is above 1, and the largest is over 50 times the least.
    """
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

    with drawing():
        figure, axes = frame(f"{title} over the epochs", height=2.3, left=0.85, legend=True)
        finite: list[np.ndarray] = []
        for place, (name, (x, y)) in enumerate(lines.items()):
            number = _OWN_STYLE.get(name, place)
            x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
            y = np.where(np.isfinite(y), y, np.nan)
            finite.append(y[np.isfinite(y)])
            axes.plot(
                x,
                y,
                color=SERIES[number % len(SERIES)],
                linestyle=DASHES[number % len(DASHES)],
                marker="os^D"[number % 4] if len(x) <= 25 else None,
                markersize=3.5,
                label=clean(name),
            )
        values = np.concatenate(finite) if finite else np.empty(0)
        axes.set_xlabel("epoch")
        axes.set_ylabel(shorten(title, 30))
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))
        if not values.size:
            axes.text(0.5, 0.5, "no values", transform=axes.transAxes, ha="center", alpha=0.75)
        elif values.min() > 0 and values.max() > 1 and values.max() > 50 * values.min():
            axes.set_yscale("log")
            # The formatter of logarithms writes mathematics, which is off for the sake of class names.
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.yaxis.set_minor_locator(NullLocator())
            axes.set_ylabel(f"{shorten(title, 24)} (logarithmic)")
        if best_x is not None and np.isfinite(best_x):
            axes.axvline(best_x, color=INK, linestyle=":", linewidth=1.2, label="best")
        axes.grid()
        if lines or best_x is not None:
            legend_above(axes)
        return finished(figure)
