"""A trained model as a file for other runtimes, proven equal before it is handed out."""

from export.options import Export, Quantization

__all__ = ["Export", "Quantization"]
