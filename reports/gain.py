"""What a way of asking a model gains over asking it plainly: two evaluations of one run, picture by picture."""

import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reports.bootstrap import Interval
from reports.compare import Cell, score_cells
from reports.compare_page import difference_text
from reports.pairing import paired_intervals, unpaired_reason
from reports.run_files import read_evaluation
from reports.score_names import score_title

__all__ = ["Gain", "measure_gain"]


@dataclass(frozen=True)
class Gain:
    """The scores without and with, and their difference.

    Attributes:
        scores: Name, and the cells without and with it; the second has the paired 95 % interval of the difference.
        note: Why there are no intervals, "" where there are.
    """

    scores: list[tuple[str, Cell, Cell]]
    note: str = ""

    def lines(self, label: str) -> list[str]:
        """A table for the terminal; ``label`` says what was asked beyond the plain model."""
        shown = [
            (score_title(name)[0], plain.estimate.shown, asked.estimate.shown, difference_text(asked))
            for name, plain, asked in self.scores
        ]
        first = max(map(len, ["score", *(row[0] for row in shown)]))
        lines = [
            f"with {label}, against the plain model:",
            "",
            f"  {'score':<{first}}  plain   with    gain [95 %]",
        ]
        lines += [
            f"  {name:<{first}}  {before:<6}  {after:<6}  {text}" for name, before, after, text in shown
        ]
        return lines if not self.note else [*lines, "", f"  no intervals: {self.note}"]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a JSON file; what is absent is null."""
        return {
            name: {
                "plain": _number(plain.estimate.value),
                "asked": _number(asked.estimate.value),
                "gain": _number(asked.difference),
                "interval_95": None if math.isnan(asked.low) else [asked.low, asked.high],
            }
            for name, plain, asked in self.scores
        }


def measure_gain(plain: Path, asked: Path, *, leave_out: Collection[str] = ()) -> Gain:
    """The gain between two files of ``RUN/evaluation``; both are of the same pictures.

    ``leave_out``: scores that are of different things in the two.
    """
    first, other = read_evaluation(plain), read_evaluation(asked)
    note = unpaired_reason(first, other)
    paired: list[dict[str, Interval]] = [{}, {} if note else paired_intervals(first, other)]
    rows: list[tuple[str, Cell, Cell]] = []
    for name in (n for n in dict.fromkeys([*first.scores, *other.scores]) if n not in leave_out):
        values = [found.scores.get(name, math.nan) for found in (first, other)]
        before, after = score_cells(name, values, 0, [{}, {}], paired)
        rows.append((name, before, after))
    return Gain(rows, note)


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
