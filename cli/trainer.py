"""From the `training:` section to the Trainer's arguments: precision, loggers, default callbacks."""

import logging
import os
from collections.abc import Sequence
from typing import Any

from lightning.pytorch import Callback
from lightning.pytorch.plugins.environments import ClusterEnvironment, SLURMEnvironment
from lightning.pytorch.plugins.io import CheckpointIO

from callbacks import (
    PICTURE_LOGGERS,
    Answers,
    AtomicCheckpointIO,
    ComputeThreads,
    EvaluationRecord,
    ExponentialMovingAverage,
    Hyperparameters,
    LossScale,
    MetricsCSV,
    Regions,
    RunDirectory,
    RunTensorBoardLogger,
    SamplesOnShow,
    ScoresFile,
    resolve_precision,
    uses_cuda,
)
from cli.cluster import spread
from cli.cuda_settings import cuda_settings
from cli.fit_callbacks import fit_callbacks, refuse_extra_saves, refuse_without_effect
from cli.messages import print_once
from cli.terminal_callbacks import has_progress_bar, terminal_callbacks
from cli.vocabulary import Training
from datamodules import threads_beside_workers
from errors import LoupeError

__all__ = ["search_arguments", "trainer_arguments", "trial_arguments"]


def trainer_arguments(
    command: str,
    training: Training,
    given: dict[str, Any],
    run: RunDirectory,
    *,
    checkpoint: str = "",
    resumed_step: int | None = None,
    words: Sequence[str] = (),
    more: Sequence[Callback] = (),
) -> dict[str, Any]:
    """All arguments of the Trainer: what the user gave under `trainer`, and what `training` says.

    The user's callbacks come first, and one of the same class takes the place of ours. ``resumed_step``: the optimizer
    steps that were done where this run goes on. ``words``: the command line. ``more``: callbacks of ours that come from
    other sections.
    """
    if given.get("use_distributed_sampler"):
        raise LoupeError(
            "trainer.use_distributed_sampler=true would share out what is shared out already; remove it"
        )
    given, told = spread(given, os.environ)
    if told:
        print_once(told)
    users: list[Callback] = _as_list(given.get("callbacks"))
    loggers = _loggers(command, training, given, run, resumed_step)
    ours: list[Callback] = [run]
    if command == "fit":
        shows = any(isinstance(logger, PICTURE_LOGGERS) for logger in loggers) and not given.get("barebones")
        if training.pictures not in (0, Training.pictures) and not shows:
            raise LoupeError(
                f"training.pictures={training.pictures} would have no effect: no logger of this run can show a "
                f"picture; TensorBoard, Weights & Biases and MLflow can"
            )
        ours = fit_callbacks(training, given, run, loggers=loggers, words=words)
    if command in ("validate", "test"):
        on_show = SamplesOnShow(0)
        record = EvaluationRecord(run, on_show, command=command, checkpoint=checkpoint)
        ours += [on_show, record, ScoresFile(run, command=command, checkpoint=checkpoint)]
    precision = _precision(command, training, given)
    if command == "fit" and precision == "16-mixed":
        ours.append(LossScale())
    if command == "fit":
        ours.append(Hyperparameters(run))
    ours.append(ComputeThreads(threads_beside_workers))
    ours += terminal_callbacks(command, training.monitor, given, users)
    ours += more
    # What is shown is of the weights that were scored: before an average of them is taken back.
    first = [c for c in ours if isinstance(c, SamplesOnShow)]
    ours.remove(run)
    arguments = dict(given)
    arguments.update(
        max_epochs=training.epochs,
        accumulate_grad_batches=training.accumulate,
        gradient_clip_val=training.gradient_clip,
        precision=precision,
        callbacks=[run, *first, *users, *(c for c in ours if c not in first and not _replaced(c, users))],
        logger=loggers,
        log_every_n_steps=_log_every(training),
        default_root_dir=given.get("default_root_dir") or str(run.parent),
        plugins=_plugins(given),
        # The datamodules share out each global batch themselves, each sample once.
        use_distributed_sampler=False,
        # Only CUDA can share batch statistics over processes; elsewhere the opening summary says that they are not.
        sync_batchnorm=bool(given.get("sync_batchnorm")) and uses_cuda(str(given.get("accelerator", "auto"))),
        enable_progress_bar=has_progress_bar(given, users),
        # The opening summary tells it in one line; --trainer.enable_model_summary true brings the table.
        enable_model_summary=bool(given.get("enable_model_summary")),
        **cuda_settings(command, given),
    )
    if given.get("barebones"):
        if training.early_stopping.enabled:
            raise LoupeError(
                "trainer.barebones=true leaves out every score, so training.early_stopping would have no effect; "
                "remove one of them"
            )
        refuse_extra_saves("trainer.barebones=true", training)
        skips = {"on_nonfinite=skip": training.on_nonfinite == "skip"}
        refuse_without_effect("trainer.barebones=true", skips)
        # Lightning refuses even the False of what this leaves out; what changes the training stays.
        kept = [
            c for c in ours if isinstance(c, (ComputeThreads, ExponentialMovingAverage, Regions, Answers))
        ]
        left_out = ("logger", "log_every_n_steps", "enable_progress_bar", "enable_model_summary")
        arguments.update(callbacks=[run, *users, *kept], **dict.fromkeys(left_out))
    return arguments


def trial_arguments(given: dict[str, Any]) -> dict[str, Any]:
    """The Trainer's arguments for a training and a validation step that leave nothing behind."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # that it is a short run is known
    kept = {key: given[key] for key in ("accelerator", "precision") if given.get(key) is not None}
    quiet = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    return {
        **kept,
        "devices": 1,
        "fast_dev_run": True,
        **dict.fromkeys(quiet, False),
        "use_distributed_sampler": False,
    }


def search_arguments(training: Training, given: dict[str, Any]) -> dict[str, Any]:
    """Those arguments of a fit's Trainer that change what a step does, or what it needs."""
    kept = (
        "accelerator",
        "benchmark",
        "detect_anomaly",
        "deterministic",
        "gradient_clip_algorithm",
        "inference_mode",
        "limit_val_batches",
        "overfit_batches",
    )
    return {
        **{key: given[key] for key in kept if given.get(key) is not None},
        "precision": _precision("fit", training, given),
        "gradient_clip_val": training.gradient_clip,
        **cuda_settings("fit", given),
    }


def _replaced(ours: Callback, users: Sequence[Callback]) -> bool:
    """Whether the user gave a callback of the same class, or of the Lightning class that ours refines."""
    family = [
        c
        for c in type(ours).__mro__
        if c.__module__.startswith(("lightning", "callbacks")) and c is not Callback
    ]
    return any(type(theirs) in family or isinstance(theirs, type(ours)) for theirs in users)


def _loggers(
    command: str, training: Training, given: dict[str, Any], run: RunDirectory, resumed_step: int | None
) -> Any:
    if command != "fit":
        return False
    users = given.get("logger")
    loggers = _as_list(users) if users not in (None, True, False) else []
    if training.tensorboard.enabled and not loggers:
        loggers.append(RunTensorBoardLogger(run, resumed_step=resumed_step))
    return [*loggers, MetricsCSV(run)]


def _log_every(training: Training) -> int:
    match training.tensorboard.update_freq:
        case "batch" | "epoch":
            # For "epoch" nothing is logged by step, whatever this number is.
            return 1
        case int(steps):
            return steps
        case other:
            raise AssertionError(other)


def _precision(command: str, training: Training, given: dict[str, Any]) -> Any:
    mixed = training.mixed_precision
    other = given.get("precision")
    if other is None:
        # What was trained in float16 on a GPU may be used on a machine that has none.
        dtype = mixed.dtype if command == "fit" else "auto"
        precision = resolve_precision(mixed.enabled, dtype, str(given.get("accelerator", "auto")))
        if mixed.enabled and precision == "32-true":
            print_once(
                "note: training.mixed_precision: this CPU does not multiply in 16 bits, so float32 is faster and is "
                "used; training.mixed_precision.dtype=bfloat16 insists"
            )
        return precision
    if mixed.enabled:
        raise LoupeError(
            f"trainer.precision={other} is not mixed precision, but training.mixed_precision is on; "
            f"add training.mixed_precision=false or remove trainer.precision"
        )
    return other


def _plugins(given: dict[str, Any]) -> list[Any]:
    plugins = _as_list(given.get("plugins"))
    if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
        plugins.append(AtomicCheckpointIO())
    if SLURMEnvironment.detect() and not any(isinstance(plugin, ClusterEnvironment) for plugin in plugins):
        # Its own requeueing saves within a step, beside the run, and has later fits of the name go on from there.
        plugins.append(SLURMEnvironment(auto_requeue=False))
    return plugins


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]
