"""From a checkpoint to predictions in a program: `inference.load(CHECKPOINT).predict(path_or_array)`."""

from inference.calibrate_options import Calibrate
from inference.calibrated_file import store_calibration
from inference.calibration import run_calibration
from inference.calibration_lines import calibration_lines
from inference.checkpoint import file_fingerprint, not_as_written, read_checkpoint, taking_over
from inference.members import check_members, load_module
from inference.options import Inference, Roi, Tiles
from inference.predictor import Predictor, load
from inference.receptive_field import receptive_field
from inference.response import create_response
from inference.roi import Region, resolve_region
from inference.roi_window import roi_window
from inference.tile_difference import TileDifference, tile_difference
from inference.views import create_looks

__all__ = [
    "Calibrate",
    "Inference",
    "Predictor",
    "Region",
    "Roi",
    "TileDifference",
    "Tiles",
    "calibration_lines",
    "check_members",
    "create_looks",
    "create_response",
    "file_fingerprint",
    "load",
    "load_module",
    "not_as_written",
    "read_checkpoint",
    "receptive_field",
    "resolve_region",
    "roi_window",
    "run_calibration",
    "store_calibration",
    "taking_over",
    "tile_difference",
]
