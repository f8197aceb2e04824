"""The callbacks of a fit, as the `training:` section wants them."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lightning.pytorch import Callback
from lightning.pytorch.loggers import Logger

from callbacks import (
    BoardSetup,
    ClosingTable,
    EvaluationCharts,
    EvaluationRecord,
    ExponentialMovingAverage,
    FiniteSteps,
    Interruption,
    LoggedSoFar,
    MetricsCSV,
    OpeningSummary,
    RunCheckpoint,
    RunDirectory,
    RunFacts,
    RunTensorBoardLogger,
    SamplesOnShow,
    StepCurves,
    TensorBoardNetwork,
    TrainingSamples,
    TrainingSpeed,
    WarmupAwareEarlyStopping,
)
from cli.vocabulary import Training
from errors import LoupeError

__all__ = ["fit_callbacks", "refuse_extra_saves", "refuse_without_effect"]


@dataclass(frozen=True)
class _Fit:
    """What the callbacks of a fit are made from."""

    training: Training
    given: dict[str, Any]
    run: RunDirectory
    loggers: Sequence[Logger]
    words: Sequence[str]

    @property
    def table(self) -> MetricsCSV:
        return next(logger for logger in self.loggers if isinstance(logger, MetricsCSV))

    @property
    def board(self) -> RunTensorBoardLogger | None:
        return next((logger for logger in self.loggers if isinstance(logger, RunTensorBoardLogger)), None)


def fit_callbacks(
    training: Training,
    given: dict[str, Any],
    run: RunDirectory,
    *,
    loggers: Sequence[Logger],
    words: Sequence[str],
) -> list[Callback]:
    """All of ours, in the order in which they have to be called.

    Args:
        training: The section.
        given: What the user gave under `trainer`.
        run: Where the run is kept.
        loggers: Those of the run, metrics.csv among them.
        words: The command line.
    """
    fit = _Fit(training, given, run, loggers, words)
    on_show = SamplesOnShow(int(training.pictures))
    record = EvaluationRecord(run, on_show, command="fit")
    checkpoint = _checkpoint(fit, record)
    speed = TrainingSpeed()
    rate = float(training.learning_rate)
    every = _steps_between_points(training)
    finite = FiniteSteps(training.on_nonfinite, learning_rate=rate, points_every=every or 0)
    callbacks: list[Callback] = [run, finite]
    if training.ema.enabled:
        callbacks.append(ExponentialMovingAverage(training.ema.decay))
    callbacks += [*_pictures(fit, on_show), record]
    if training.early_stopping.enabled:
        callbacks.append(_early_stopping(training, checkpoint))
    if checkpoint is not None:
        callbacks.append(checkpoint)
    curves = [StepCurves(every, finite)] if every else []
    callbacks += [Interruption(), speed, *curves, *_kept(fit, speed, checkpoint)]
    told = [OpeningSummary(run, training.as_dict()), ClosingTable(run, checkpoint)]
    return [*callbacks, *told, LoggedSoFar(fit.table, fit.board)]


def refuse_without_effect(other: str, wanted: dict[str, bool]) -> None:
    """LoupeError for the first key of `training` that is wanted and that ``other`` leaves out."""
    for key, is_wanted in wanted.items():
        if is_wanted:
            raise LoupeError(f"training.{key} would have no effect under {other}; remove one of them")


def refuse_extra_saves(other: str, training: Training) -> None:
    """LoupeError for checkpoints within an epoch, where ``other`` leaves all checkpoints out."""
    given = training.checkpoint
    wanted = {f"checkpoint.{k}": getattr(given, k) is not None for k in ("every_n_steps", "every_minutes")}
    refuse_without_effect(other, wanted)


def _pictures(fit: _Fit, on_show: SamplesOnShow) -> list[Callback]:
    """What is looked at while a fit runs."""
    shown: list[Callback] = [on_show]
    pictures = int(fit.training.pictures)
    if pictures:
        shown += [TrainingSamples(pictures), EvaluationCharts()]
    options = fit.training.tensorboard
    if options.enabled:
        network = TensorBoardNetwork(
            histogram_freq=options.histogram_freq,
            write_graph=options.write_graph,
            write_images=options.write_images,
        )
        shown.append(network)
    return shown


def _steps_between_points(training: Training) -> int | None:
    """Optimizer steps from one point of a step's curve to the next; None: there are no such curves."""
    match training.tensorboard.update_freq:
        case "epoch":
            return None
        case "batch":
            return 1
        case int(steps):
            return int(steps)
        case other:
            raise AssertionError(other)


def _kept(fit: _Fit, speed: TrainingSpeed, checkpoint: RunCheckpoint | None) -> list[Callback]:
    """What tells later what the run was."""

    def best() -> dict[str, Any] | None:
        if checkpoint is None or checkpoint.best_score is None:
            return None
        score = checkpoint.best_score
        return {
            "monitor": checkpoint.monitor,
            "score": score if score == score else None,
            "epoch": checkpoint.best_epoch,
        }

    kept: list[Callback] = [RunFacts(fit.run, speed, command=fit.words, best=best)]
    if fit.board is not None:
        kept.append(
            BoardSetup(
                fit.run,
                fit.board,
                command=shlex.join(fit.words),
                scores_of=fit.table.scores,
                best_epoch=lambda: None if checkpoint is None else checkpoint.best_epoch,
            )
        )
    return kept


def _checkpoint(fit: _Fit, record: EvaluationRecord) -> RunCheckpoint | None:
    training = fit.training
    if fit.given.get("enable_checkpointing") is not False:
        return RunCheckpoint(
            fit.run,
            monitor=training.monitor,
            mode=training.mode,
            measure=_measure(training),
            every_n_steps=training.checkpoint.every_n_steps,
            every_minutes=training.checkpoint.every_minutes,
            keep=training.checkpoint.keep,
            with_best=record.write,
        )
    refuse_extra_saves("trainer.enable_checkpointing=false", training)
    if training.early_stopping.enabled and training.early_stopping.restore_best_weights:
        raise LoupeError(
            "trainer.enable_checkpointing=false leaves no best weights for training.early_stopping to restore; "
            "add training.early_stopping.restore_best_weights=false"
        )
    return None


def _early_stopping(training: Training, checkpoint: RunCheckpoint | None) -> WarmupAwareEarlyStopping:
    stopping = training.early_stopping
    return WarmupAwareEarlyStopping(
        training.monitor,
        mode=training.mode,
        measure=_measure(training),
        # Plain numbers: the callback's state is kept in checkpoints, which hold no PositiveInt.
        patience=int(stopping.patience),
        min_delta=float(stopping.min_delta),
        warmup_epochs=training.warmup.epochs if training.warmup.enabled else 0.0,
        restore_from=checkpoint if stopping.restore_best_weights else None,
    )


def _measure(training: Training) -> str:
    """What makes two monitored scores comparable: the name, and for a loss the loss itself."""
    loss = json.dumps(training.loss, sort_keys=True) if training.monitor.endswith("loss") else ""
    return f"{training.monitor} {training.mode} {loss}".strip()
