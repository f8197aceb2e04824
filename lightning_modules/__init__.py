"""One LightningModule a task, over a small shared base."""

from lightning_modules.base import LoupeModule
from lightning_modules.segmentation import SegmentationModule

__all__ = ["LoupeModule", "SegmentationModule"]
