"""Pictures and charts from plain arrays: no files, no logger, no network."""

from figures.answers import Answer, draw_answer
from figures.calibration import calibration_chart
from figures.canvas import to_png, to_svg
from figures.charts import class_chart, history_chart
from figures.confusion import confusion_chart
from figures.curves import MOST_CURVES, precision_recall_chart, reliability_chart
from figures.palette import palette
from figures.panels import caption, draw_sheet
from figures.shown import BoxShown, ClassShown, MaskShown, Shown
from figures.tiles import draw_tile

__all__ = [
    "MOST_CURVES",
    "Answer",
    "BoxShown",
    "ClassShown",
    "MaskShown",
    "Shown",
    "calibration_chart",
    "caption",
    "class_chart",
    "confusion_chart",
    "draw_answer",
    "draw_sheet",
    "draw_tile",
    "history_chart",
    "palette",
    "precision_recall_chart",
    "reliability_chart",
    "to_png",
    "to_svg",
]
