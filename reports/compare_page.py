"""`compare.html`: runs side by side on one page that needs no other file."""

import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from errors import LoupeError
from figures import history_chart
from figures.pages import page_templates
from reports.compare import Cell, Comparison
from reports.course import column, curve_names
from reports.drawings import Drawing, draw
from reports.score_names import score_title

__all__ = ["difference_text", "write_comparison"]

_MARKS = {"better": "▲", "worse": "▼", "within chance": "≈", "": ""}
_LINES = 8  # runs in one chart


def write_comparison(comparison: Comparison, page: Path, *, write: Callable[[Path, str], None]) -> Path:
    """Writes the page, whole or not at all; LoupeError where the place cannot be written to."""
    text = (
        page_templates(Path(__file__).parent / "templates")
        .get_template("compare.html")
        .render(
            comparison=comparison,
            date=time.strftime("%Y-%m-%d %H:%M"),
            curves=_curves(comparison),
            title=lambda name: score_title(name)[0],
            difference=difference_text,
            mark=_MARKS.get,
        )
    )
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        write(page, text)
    except OSError as error:
        raise LoupeError(
            f"--output: cannot write {page}: {error.strerror or error}; give another file"
        ) from error
    return page


def difference_text(cell: Cell) -> str:
    """The difference to the first run, with its interval where there is one.

    >>> from reports.evaluation_part import Estimate
    >>> difference_text(Cell(Estimate("iou", 0.8), 0.02, 0.01, 0.03, "better"))
    '+0.0200 [+0.010, +0.030] better'
    """
    if math.isnan(cell.difference):
        return ""
    text = f"{cell.difference:+.4f}"
    return text if math.isnan(cell.low) else f"{text} [{cell.low:+.3f}, {cell.high:+.3f}] {cell.verdict}"


def _curves(comparison: Comparison) -> list[Drawing]:
    """Loss and scores of the validation, a line a run."""
    names = list(dict.fromkeys(name for run in comparison.runs for name in curve_names(run)))
    drawn: list[Drawing] = []
    for name in names:
        key = f"train/{name}" if name == "learning_rate" else f"val/{name}"
        lines: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for number, run in enumerate(comparison.runs[:_LINES], 1):
            line = column(run, key)
            if line is not None:
                lines[f"run {number}"] = line
        if len(lines) < 2:
            continue
        told = "; ".join(f"{label}: {y[-1]:.4g} at epoch {x[-1]:.0f}" for label, (x, y) in lines.items())
        drawn.append(draw(history_chart(lines, title=key), key, f"{told}."))
    return drawn
