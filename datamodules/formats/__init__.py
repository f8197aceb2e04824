"""The layouts in which pictures and their annotations come, each read into `Samples`."""

from datamodules.formats.box import BOX_COLUMNS, Box, box_of, boxes_of
from datamodules.formats.boxes import find_boxes
from datamodules.formats.builtin import BUILTIN, ensure_builtin
from datamodules.formats.labels import find_labels
from datamodules.formats.manifest import read_manifest
from datamodules.formats.masks import FoundMasks, find_masks
from datamodules.formats.tables import TABLE_KINDS, TABLE_SUFFIXES

__all__ = [
    "BOX_COLUMNS",
    "BUILTIN",
    "TABLE_KINDS",
    "TABLE_SUFFIXES",
    "Box",
    "FoundMasks",
    "box_of",
    "boxes_of",
    "ensure_builtin",
    "find_boxes",
    "find_labels",
    "find_masks",
    "read_manifest",
]
