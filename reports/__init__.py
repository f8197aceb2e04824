"""A run as a page, and runs side by side."""

from reports.compare import Cell, Comparison, StageComparison, compare_runs
from reports.compare_page import difference_text, write_comparison
from reports.gain import Gain, measure_gain
from reports.page import write_report
from reports.run_files import is_run
from reports.score_names import score_title

__all__ = [
    "Cell",
    "Comparison",
    "Gain",
    "StageComparison",
    "compare_runs",
    "difference_text",
    "is_run",
    "measure_gain",
    "score_title",
    "write_comparison",
    "write_report",
]
