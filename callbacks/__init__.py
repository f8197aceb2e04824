"""Lightning callbacks and loggers, one a file."""

from callbacks.checkpoint import RunCheckpoint
from callbacks.checkpoint_files import AtomicCheckpointIO
from callbacks.console import ClosingTable, EpochLines, OpeningSummary
from callbacks.data_time import DataTime
from callbacks.early_stopping import WarmupAwareEarlyStopping
from callbacks.ema import ExponentialMovingAverage
from callbacks.event_files import RunTensorBoardLogger
from callbacks.finite import FiniteSteps
from callbacks.interruption import Interruption
from callbacks.logged_so_far import LoggedSoFar
from callbacks.metrics_csv import MetricsCSV
from callbacks.mixed_precision import LossScale, resolve_precision, uses_cuda
from callbacks.prediction_writer import PredictionWriter, mask_image
from callbacks.run_directory import RunDirectory, write_atomically
from callbacks.scores_file import ScoresFile
from callbacks.tensorboard import TensorBoardNetwork

__all__ = [
    "AtomicCheckpointIO",
    "ClosingTable",
    "DataTime",
    "EpochLines",
    "ExponentialMovingAverage",
    "FiniteSteps",
    "Interruption",
    "LoggedSoFar",
    "LossScale",
    "MetricsCSV",
    "OpeningSummary",
    "PredictionWriter",
    "RunCheckpoint",
    "RunDirectory",
    "RunTensorBoardLogger",
    "ScoresFile",
    "TensorBoardNetwork",
    "WarmupAwareEarlyStopping",
    "mask_image",
    "resolve_precision",
    "uses_cuda",
    "write_atomically",
]
