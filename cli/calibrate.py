"""`python train.py calibrate`: what validation data says of a checkpoint's probabilities, told and kept in the file."""

from pathlib import Path

import numpy as np
from lightning.pytorch import Trainer

from callbacks import RunDirectory, write_atomically
from cli.messages import print_once
from datamodules import LoupeDataModule
from figures import calibration_chart, to_svg
from inference import Calibrate, calibration_lines, run_calibration
from lightning_modules import LoupeModule

__all__ = ["run_calibrate"]


def run_calibrate(
    trainer: Trainer,
    model: LoupeModule,
    data: LoupeDataModule,
    checkpoint: Path,
    options: Calibrate,
    run: RunDirectory,
) -> None:
    """Measure, keep, tell, and draw ``RUN/calibration.svg``.

    LoupeError for what cannot be calibrated: the file is as it was.
    """
    found = run_calibration(trainer, model, data, checkpoint, options)
    for line in calibration_lines(found):
        print_once(line)
    if trainer.is_global_zero and run.claimed:
        before, after = (np.array(found.figures[f"reliability_{when}"]) for when in ("before", "after"))
        errors = (found.figures["calibration_error_before"], found.figures["calibration_error_after"])
        chart = calibration_chart(before, after, errors)
        about = "how often answers are right at each probability, before and after"
        drawn = to_svg(chart, title="calibration", description=about)
        write_atomically(run.path / "calibration.svg", drawn)
        print_once(f"chart: {run.path / 'calibration.svg'}")
    print_once(f"kept in {checkpoint}; test, predict and export use it from now on")
