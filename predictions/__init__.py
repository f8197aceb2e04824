"""Predictions as files: tables, masks, overlays, what was done and with what."""

from predictions.background import Background
from predictions.coco import write_coco
from predictions.inputs import Inputs
from predictions.journal import Journal, JournalFile, Record
from predictions.names import OutputNames, output_names
from predictions.options import Predictions
from predictions.outputs import Outputs, Task, Unread
from predictions.pictures import cut, mask_image
from predictions.sidecar import SIDECAR, identity_of, identity_there, write_sidecar
from predictions.tables import require_parquet, write_table, write_unreadable

__all__ = [
    "SIDECAR",
    "Background",
    "Inputs",
    "Journal",
    "JournalFile",
    "OutputNames",
    "Outputs",
    "Predictions",
    "Record",
    "Task",
    "Unread",
    "cut",
    "identity_of",
    "identity_there",
    "mask_image",
    "output_names",
    "require_parquet",
    "write_coco",
    "write_sidecar",
    "write_table",
    "write_unreadable",
]
