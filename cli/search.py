"""The search for the numbers of a fit: hands its settings to the finders, and tells what they found."""

import logging
import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from callbacks import ComputeThreads, ExponentialMovingAverage
from cli.cluster import refuse_launchers
from cli.messages import print_once
from cli.monitor import check_monitor
from cli.trainer import search_arguments
from cli.uses import Uses
from cli.vocabulary import Training
from datamodules import threads_beside_workers
from errors import LoupeError
from finders import Trial, Wanted, find_numbers
from inference import Inference, Roi, resolve_region

__all__ = ["search"]


def search(
    config: Namespace, asked: list[str], *, build: Callable[[Namespace], Any]
) -> tuple[dict[str, Any], int]:
    """The numbers by their keys, told one a line, and how many processes will train.

    Args:
        config: All settings of the fit, with numbers where none is known yet.
        asked: The keys of `training` to search for.
        build: Makes objects from settings like these.
    """
    training, given = config.training, dict(config.get("trainer") or {})
    refuse_launchers(os.environ, int(given.get("num_nodes") or 1), f"training.{asked[0]}")
    fitting = _as_in_fit(training, given)
    on_cuda = fitting.strategy.root_device.type == "cuda"
    arguments = search_arguments(training, given)
    arguments["devices"] = fitting.device_ids[:1] if on_cuda else 1
    plain = config.clone()
    plain.trainer = None  # a user's loggers begin something when they are made
    memory, learning = build(plain), build(plain)
    check_monitor(training, learning.model, fitting)
    decay = float(training.ema.decay) if training.ema.enabled else None
    looking = partial(_looking, learning["roi"], learning["inference"])
    wanted = Wanted(
        asked,
        batch_size=int(training.batch_size),
        accumulate=int(training.accumulate),
        processes=fitting.world_size,
        memory=Trial(memory.model, memory.data, arguments, partial(_needing_memory, decay)),
        learning=Trial(learning.model, learning.data, arguments, looking),
    )
    keys = ", ".join(f"training.{key}" for key in asked)
    print_once(f"searching for {keys}: steps on one device, of which nothing is kept")
    found = find_numbers(wanted)
    for key, number in found.items():
        print_once(f"training.{key}: auto found {number:g}")
    return found, fitting.world_size


def _as_in_fit(training: Training, given: Mapping[str, Any]) -> Trainer:
    """A Trainer to ask what that of the fit will be like; it runs nothing, and says nothing."""
    kept = ("accelerator", "devices", "num_nodes", "check_val_every_n_epoch", "limit_val_batches")
    strategy = given.get("strategy") or "auto"
    log = logging.getLogger("lightning.pytorch")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        return Trainer(
            **{key: given[key] for key in kept if given.get(key) is not None},
            strategy=strategy if isinstance(strategy, str) else "ddp",
            max_epochs=training.epochs,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
        )
    except (MisconfigurationException, TypeError, ValueError) as error:
        raise LoupeError(f"trainer: {error}") from error
    finally:
        log.setLevel(level)


def _needing_memory(decay: float | None) -> list[Callback]:
    """What holds weights beside those of the model."""
    return [] if decay is None else [ExponentialMovingAverage(decay)]


def _looking(roi: Roi, inference: Inference) -> list[Callback]:
    """What decides which part of a picture the model sees, and the threads that workers leave."""
    region = Uses("fit", inference, resolve_region(roi, None, trains=True, path="")).callbacks()
    return [ComputeThreads(threads_beside_workers), *region]
