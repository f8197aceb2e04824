"""A trained model as a file for other runtimes, proven equal before it is handed out."""

from export.gate import ExportResult, export_model
from export.options import Export, Quantization
from export.program import Program, create_program
from export.runtimes import Runtime, load_runtime

__all__ = [
    "Export",
    "ExportResult",
    "Program",
    "Quantization",
    "Runtime",
    "create_program",
    "export_model",
    "load_runtime",
]
