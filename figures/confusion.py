"""The confusion matrix as a chart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from figures.canvas import INK, SERIES, amount, drawing, finished, frame, label_inches, name_rows
from figures.lettering import shorten_apart

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["confusion_chart"]

_MOST_CLASSES, _SHOWN, _MOST_NUMBERS, _LEAST = 24, 20, 60, 0.005
_STRONGEST = 0.65
"""Of a cell's colour: ink on it is legible on a light and on a dark page."""


def confusion_chart(confusion: np.ndarray, class_names: Sequence[str]) -> Figure:
    """What became of each true class, in per cent of it: one row a true class, one column a predicted one.

    Args:
        confusion: (K, K), rows are the truth; counts or sums of weights.
        class_names: K names.

    Right answers are blue and mistakes orange. Of more than 24 classes the 20 with the most mistakes, made or
    received, are drawn, and all others as one; the title says so.
    """
    confusion = np.nan_to_num(np.asarray(confusion, np.float64))
    names = list(class_names)
    assert confusion.shape == (len(names), len(names)), (confusion.shape, len(names))
    note = "In each row: where the samples of a true class went, in per cent; beside it, how many."
    title = "Confusion matrix"
    if len(names) > _MOST_CLASSES:
        title = f"Confusion matrix of {_SHOWN} of {len(names)} classes"
        note += f" The {_SHOWN} with the most mistakes, made or received; the rest as one."
        confusion, names = _gathered(confusion, names)
    size = len(names)
    names = shorten_apart(names, 20 if size <= 12 else 16)
    totals = confusion.sum(axis=1)
    share = np.divide(confusion, totals[:, None], out=np.zeros_like(confusion), where=totals[:, None] > 0)
    if (share >= _LEAST).sum() > _MOST_NUMBERS:
        note += f" Only the {_MOST_NUMBERS} largest shares are written."
    cell = float(np.clip(3.3 / size, 0.17, 0.95))
    rows = [f"{name}  {amount(total)}" for name, total in zip(names, totals, strict=True)]
    text_pt = min(8.5, cell * 72 * 0.62)
    left = label_inches(rows, text_pt) + 0.4
    upright = label_inches(names, text_pt) > cell * 0.92
    below = label_inches(names, text_pt) if upright else 0.15
    body = cell * size
    with drawing():
        width = max(5.0, left + body + 0.2)
        figure, axes = frame(
            title, note, height=body, left=left, bottom=0.38 + below, width=width, right=width - left - body
        )
        _draw_cells(axes, share, cell)
        for row in np.flatnonzero(totals <= 0):
            axes.text(size / 2, row + 0.5, "absent", ha="center", va="center", fontsize=text_pt, alpha=0.75)
        axes.set_xlim(0, size)
        axes.set_ylim(size, 0)
        name_rows(axes, rows, 0.5, text_pt)
        axes.set_xticks([])
        for column, name in enumerate(names):
            axes.text(
                column + 0.5,
                -0.06 / body,
                name,
                transform=axes.get_xaxis_transform(),
                rotation=90 if upright else 0,
                ha="center",
                va="top",
                fontsize=text_pt,
            )
        axes.set_xlabel("predicted")
        axes.xaxis.set_label_coords(0.5, -(0.12 + below) / body)
        axes.set_ylabel("true")
        axes.yaxis.set_label_coords(-(left - 0.26) / body, 0.5)
        for side in ("left", "bottom"):
            axes.spines[side].set_visible(False)
        return finished(figure)


def _gathered(confusion: np.ndarray, names: list[str]) -> tuple[np.ndarray, list[str]]:
    """The classes with the most mistakes, in their order, and one row and column for all others."""
    mistakes = confusion.sum(axis=0) + confusion.sum(axis=1) - 2 * confusion.diagonal()
    kept = np.sort(np.argsort(-mistakes, kind="stable")[:_SHOWN])
    group = np.full(len(names), _SHOWN)
    group[kept] = np.arange(_SHOWN)
    member = np.eye(_SHOWN + 1)[group]
    return member.T @ confusion @ member, [
        *(names[number] for number in kept),
        f"other {len(names) - _SHOWN}",
    ]


def _draw_cells(axes: Axes, share: np.ndarray, cell: float) -> None:
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Rectangle

    size, gap = len(share), 0.02
    axes.add_patch(Rectangle((0, 0), size, size, facecolor=INK, alpha=0.05, linewidth=0))
    corners = np.array([(gap, gap), (1 - gap, gap), (1 - gap, 1 - gap), (gap, 1 - gap)])
    rows, columns = np.nonzero(share > 0)
    values = share[rows, columns]
    colours = np.empty((len(values), 4))
    colours[:, :3] = np.where((rows == columns)[:, None], to_rgb(SERIES[0]), to_rgb(SERIES[1]))
    # The root lifts small shares: a mistake of 2 % must be seen.
    colours[:, 3] = _STRONGEST * np.sqrt(np.clip(values, 0, 1))
    polygons = corners[None] + np.stack([columns, rows], axis=1)[:, None]
    axes.add_collection(PolyCollection(list(polygons), facecolors=colours.tolist(), edgecolors="none"))
    size_pt = min(9.0, cell * 72 * 0.46)
    for place in np.argsort(-values, kind="stable")[:_MOST_NUMBERS].tolist():
        if values[place] >= _LEAST:
            axes.text(
                float(columns[place]) + 0.5,
                float(rows[place]) + 0.5,
                f"{100 * float(values[place]):.0f}",
                ha="center",
                va="center_baseline",
                fontsize=size_pt,
            )
