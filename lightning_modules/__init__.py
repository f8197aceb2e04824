"""One LightningModule a task, over a small shared base."""

from lightning_modules.base import LoupeModule
from lightning_modules.classification import ClassificationModule
from lightning_modules.cropping import CropModule
from lightning_modules.segmentation import SegmentationModule

__all__ = ["ClassificationModule", "CropModule", "LoupeModule", "SegmentationModule"]
