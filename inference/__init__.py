"""From a checkpoint to predictions in a program: `inference.load(CHECKPOINT).predict(path_or_array)`."""

from inference.checkpoint import read_checkpoint
from inference.predictor import Predictor, load

__all__ = ["Predictor", "load", "read_checkpoint"]
