"""Only what torchmetrics lacks or gets wrong."""

from metrics.answers import answers_of, log_odds_of
from metrics.boxes import BoxScores, box_iou
from metrics.classification import ClassificationScores
from metrics.confusion import ConfusionMatrix
from metrics.mean_loss import MeanLoss
from metrics.multi_label import MultiLabelScores
from metrics.per_sample import SampleCount
from metrics.pixel_sample import PixelSample
from metrics.ranking import precision_recall, ranking
from metrics.regions import class_iou
from metrics.segmentation import SegmentationScores

__all__ = [
    "BoxScores",
    "ClassificationScores",
    "ConfusionMatrix",
    "MeanLoss",
    "MultiLabelScores",
    "PixelSample",
    "SampleCount",
    "SegmentationScores",
    "answers_of",
    "box_iou",
    "class_iou",
    "log_odds_of",
    "precision_recall",
    "ranking",
]
