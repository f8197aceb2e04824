"""Lightning callbacks and loggers, one a file."""

from callbacks.answers import Answers
from callbacks.board_setup import BoardSetup
from callbacks.checkpoint import RunCheckpoint
from callbacks.checkpoint_files import AtomicCheckpointIO
from callbacks.closing import ClosingTable
from callbacks.compute_threads import ComputeThreads
from callbacks.early_stopping import WarmupAwareEarlyStopping
from callbacks.ema import ExponentialMovingAverage
from callbacks.epoch_lines import EpochLines
from callbacks.evaluation_charts import EvaluationCharts
from callbacks.evaluation_record import EvaluationRecord
from callbacks.event_files import RunTensorBoardLogger
from callbacks.finite import FiniteSteps
from callbacks.hyperparameters import Hyperparameters
from callbacks.idle_hooks import pass_over_idle_hooks
from callbacks.interruption import Interruption
from callbacks.logged_so_far import LoggedSoFar
from callbacks.metrics_csv import MetricsCSV
from callbacks.mixed_precision import LossScale, resolve_precision, uses_cuda
from callbacks.opening import OpeningSummary
from callbacks.picture_loggers import PICTURE_LOGGERS
from callbacks.prediction_writer import PredictionWriter, mask_image
from callbacks.progress import RunProgressBar
from callbacks.regions import Regions
from callbacks.run_directory import RunDirectory, write_atomically
from callbacks.run_facts import RunFacts
from callbacks.samples_on_show import SamplesOnShow
from callbacks.scores_file import ScoresFile
from callbacks.speed import TrainingSpeed
from callbacks.step_curves import StepCurves
from callbacks.tensorboard import TensorBoardNetwork
from callbacks.time_estimate import TimeEstimate
from callbacks.training_samples import TrainingSamples

__all__ = [
    "PICTURE_LOGGERS",
    "Answers",
    "AtomicCheckpointIO",
    "BoardSetup",
    "ClosingTable",
    "ComputeThreads",
    "EpochLines",
    "EvaluationCharts",
    "EvaluationRecord",
    "ExponentialMovingAverage",
    "FiniteSteps",
    "Hyperparameters",
    "Interruption",
    "LoggedSoFar",
    "LossScale",
    "MetricsCSV",
    "OpeningSummary",
    "PredictionWriter",
    "Regions",
    "RunCheckpoint",
    "RunDirectory",
    "RunFacts",
    "RunProgressBar",
    "RunTensorBoardLogger",
    "SamplesOnShow",
    "ScoresFile",
    "StepCurves",
    "TensorBoardNetwork",
    "TimeEstimate",
    "TrainingSamples",
    "TrainingSpeed",
    "WarmupAwareEarlyStopping",
    "mask_image",
    "pass_over_idle_hooks",
    "resolve_precision",
    "uses_cuda",
    "write_atomically",
]
