"""`python train.py check`: gives the objects of a fit to the inspection, and tells what it found."""

import logging
import sys
from collections.abc import Callable
from pathlib import Path

from jsonargparse import Namespace
from lightning.pytorch import Trainer

from callbacks import write_atomically
from cli.messages import print_once
from datamodules import LoupeDataModule, check_shares
from inspection import inspect_data, print_table, write_report
from lightning_modules import LoupeModule

__all__ = ["run_check"]


def run_check(
    trainer: Trainer,
    model: LoupeModule,
    data: LoupeDataModule,
    *,
    config: Namespace,
    check_monitor: Callable[[], None],
    folder: Path,
    configs: list[Path],
) -> int:
    """The exit code: 0, or 1 where training would fail or be unsound.

    Args:
        trainer: For the trial, not that of a fit.
        model: The module.
        data: The datamodule, not set up.
        config: All settings of the fit.
        check_monitor: Raises LoupeError for a monitor that cannot work.
        folder: Where the report goes.
        configs: The files that the settings come from.
    """
    found = inspect_data(
        data,
        settings=[check_monitor, lambda: _check_shares(config, data)],
        trial=lambda: _try(trainer, model, data),
        progress=sys.stderr.isatty(),
    )
    print_table(found)
    source = str(data.root or data.dataset)
    files = ", ".join(map(str, configs))
    page = write_report(found, folder, config=files, data=source, write=write_atomically)
    print_once(f"  report: {page}")
    return 0 if found.sound else 1


def _try(trainer: Trainer, model: LoupeModule, data: LoupeDataModule) -> None:
    log = logging.getLogger("datamodules")
    level = log.level
    log.setLevel(logging.ERROR)  # it would tell of the trial as of an epoch
    try:
        trainer.fit(model, datamodule=data)
    finally:
        log.setLevel(level)


def _check_shares(config: Namespace, data: LoupeDataModule) -> None:
    training, trainer = config["training"], config.get("trainer") or {}
    asked = (str(trainer.get(key)) for key in ("devices", "num_nodes"))
    # what is no number depends on the machine
    devices, nodes = (int(number) if number.isdigit() else 1 for number in asked)
    check_shares(
        training.batch_size, world=max(1, devices * nodes), accumulate=training.accumulate, pairs=data.mixes
    )
