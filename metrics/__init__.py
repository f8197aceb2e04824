"""Only what torchmetrics lacks or gets wrong."""

from metrics.mean_loss import MeanLoss
from metrics.segmentation import SegmentationScores

__all__ = ["MeanLoss", "SegmentationScores"]
