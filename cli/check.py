"""`python train.py check`: gives the objects of a fit to the inspection, and tells what it found."""

import logging
import sys
from collections.abc import Callable
from pathlib import Path

from lightning.pytorch import Trainer

from cli.messages import print_once
from datamodules import LoupeDataModule
from inspection import inspect_data, print_table, write_report
from lightning_modules import LoupeModule

__all__ = ["run_check"]


def run_check(
    trainer: Trainer,
    model: LoupeModule,
    data: LoupeDataModule,
    *,
    check_monitor: Callable[[], None],
    folder: Path,
    configs: list[Path],
) -> int:
    """The exit code: 0, or 1 where training would fail or be unsound."""
    logging.getLogger("lightning").setLevel(logging.WARNING)  # that the trial is a short run is known
    found = inspect_data(
        data,
        settings=[check_monitor],
        trial=lambda: trainer.fit(model, datamodule=data),
        progress=sys.stderr.isatty(),
    )
    print_table(found)
    source = str(data.root or data.dataset)
    page = write_report(found, folder, config=", ".join(map(str, configs)), data=source)
    print_once(f"  report: {page}")
    return 0 if found.sound else 1
