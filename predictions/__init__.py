"""Predictions as files: tables, masks, overlays, what was done and with what."""

from predictions.options import Predictions

__all__ = ["Predictions"]
