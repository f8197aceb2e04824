"""From a checkpoint to predictions in a program: `inference.load(CHECKPOINT).predict(path_or_array)`."""

from inference.checkpoint import not_as_written, read_checkpoint, taking_over
from inference.predictor import Predictor, load

__all__ = ["Predictor", "load", "not_as_written", "read_checkpoint", "taking_over"]
