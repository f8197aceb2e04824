"""Data sets, their splits, transforms and samplers, and one LightningDataModule a task."""

from datamodules.base import LoupeDataModule
from datamodules.classification import ClassificationDataModule, split_labels
from datamodules.cropping import CropDataModule
from datamodules.formats import BOX_COLUMNS
from datamodules.geometry import VOID, Fit, fit_to, plan_fit, seen_through
from datamodules.images import UnreadableError, read_for_display, read_image, read_mask
from datamodules.input_reader import InputReader
from datamodules.options import Augment, BoxRead, LabelRead, Loader, MaskRead, Read, Split
from datamodules.plain_pictures import plain_batches
from datamodules.problems import Problem, Problems
from datamodules.sampler import Draw, GlobalBatchSampler, check_shares
from datamodules.samples import Samples
from datamodules.segmentation import SegmentationDataModule
from datamodules.shapes import ensure_shapes
from datamodules.targets import Target
from datamodules.workers import threads_beside_workers, usable_cores

__all__ = [
    "BOX_COLUMNS",
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
    "Problem",
    "Problems",
    "Read",
    "Samples",
    "SegmentationDataModule",
    "Split",
    "Target",
    "UnreadableError",
    "check_shares",
    "ensure_shapes",
    "fit_to",
    "plain_batches",
    "plan_fit",
    "read_for_display",
    "read_image",
    "read_mask",
    "seen_through",
    "split_labels",
    "threads_beside_workers",
    "usable_cores",
]
