"""Data sets, their splits, transforms and samplers, and one LightningDataModule a task."""

from datamodules.base import LoupeDataModule
from datamodules.classification import ClassificationDataModule
from datamodules.cropping import CropDataModule
from datamodules.geometry import VOID, Fit, fit_to, plan_fit
from datamodules.images import read_for_display, read_image, read_mask
from datamodules.input_reader import InputReader
from datamodules.options import Augment, BoxRead, LabelRead, Loader, MaskRead, Read, Split
from datamodules.sampler import Draw, GlobalBatchSampler
from datamodules.segmentation import SegmentationDataModule
from datamodules.shapes import ensure_shapes

__all__ = [
    "VOID",
    "Augment",
    "BoxRead",
    "ClassificationDataModule",
    "CropDataModule",
    "Draw",
    "Fit",
    "GlobalBatchSampler",
    "InputReader",
    "LabelRead",
    "Loader",
    "LoupeDataModule",
    "MaskRead",
    "Read",
    "SegmentationDataModule",
    "Split",
    "ensure_shapes",
    "fit_to",
    "plan_fit",
    "read_for_display",
    "read_image",
    "read_mask",
]
