"""Real runs that die at a chosen moment, and the comparison of what they leave with a run that did not."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import Checkpoint

from tests.boards import CLOCKED, curves
from tests.fitting import read_metrics

#: Hooks at which something may happen; around them lie all steps, validations, saves and epochs.
HOOKS = (
    "on_train_start",
    "on_train_epoch_start",
    "on_train_batch_start",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_before_zero_grad",
    "on_train_batch_end",
    "on_validation_start",
    "on_validation_batch_start",
    "on_validation_batch_end",
    "on_validation_epoch_end",
    "on_validation_end",
    "on_train_epoch_end",
    "on_save_checkpoint",
)


@dataclass
class Moments:
    """Counts moments of a run, hooks and file operations alike, and does something at one of them.

    Called in the new process (`tests.processes`). Moment 0 never comes: then it only counts, and writes the count.

    Args:
        at: The moment, from 1.
        what: ``SIGKILL``, ``SIGTERM``, ``SIGINT``, or ``full`` for a disk that takes no more. After ``group`` a signal
            goes to the worker processes too, as from a terminal.
    """

    at: int = 0
    what: str = "SIGKILL"
    count: int = field(default=0, init=False)
    begun: bool = field(default=False, init=False)

    def __call__(self) -> None:
        import cli.app

        if self.what.startswith("group"):
            os.setpgrp()
        build = cli.app.trainer_arguments

        def with_moments(*args: Any, **kwargs: Any) -> dict[str, Any]:
            arguments = build(*args, **kwargs)
            return {**arguments, "callbacks": [*arguments["callbacks"], _between(self), _after(self)]}

        cli.app.trainer_arguments = with_moments
        for name in ("fsync", "replace", "link"):
            setattr(os, name, self._counted(getattr(os, name)))

    def _counted(self, operation: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.reach()
            return operation(*args, **kwargs)

        return counted

    def reach(self, hook: str = "") -> None:
        self.begun = self.begun or hook == "on_train_start"
        if not self.begun:
            return
        self.count += 1
        if self.count == self.at:
            if self.what == "full":
                resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
            elif self.what.startswith("group"):
                _signal_group(signal.Signals[self.what.split()[1]])
            else:
                os.kill(os.getpid(), signal.Signals[self.what])


def _signal_group(number: signal.Signals) -> None:
    """From another process, as a terminal or a scheduler would: workers know their parent's own SIGTERM."""
    sender = os.fork()
    if not sender:
        os.killpg(0, number)
        os._exit(0)
    os.waitpid(sender, 0)


class _Hooks:
    def __init__(self, moments: Moments) -> None:
        for hook in HOOKS:
            setattr(self, hook, partial(self._reach, hook))
        self.moments = moments

    def _reach(self, hook: str, trainer: Any, *args: Any, **kwargs: Any) -> None:
        if hook == "on_train_batch_end":
            Path("steps.txt").write_text(str(trainer.global_step), encoding="utf-8")
        self.moments.reach(hook)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        Path("moments.txt").write_text(str(self.moments.count), encoding="utf-8")


class SignalAt(Callback):
    """One process of several sends itself a signal after a step; for the command line.

    Args:
        step: The number of optimizer steps done; 0 for never.
        rank: Which process.
        number: The signal.
    """

    def __init__(self, step: int, rank: int = 0, number: int = 15) -> None:
        self.step, self.rank, self.number = step, rank, number

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        stepped = (
            batch_idx + 1
        ) % trainer.accumulate_grad_batches == 0  # other micro-batches have the same number
        if stepped and trainer.global_step == self.step and trainer.global_rank == self.rank:
            os.kill(os.getpid(), self.number)


class _Between(_Hooks, Callback):
    """Before the checkpoints are looked after."""


class _After(_Hooks, Checkpoint):
    """After: Lightning calls callbacks of this kind last."""


def _between(moments: Moments) -> Callback:
    return _Between(moments)


def _after(moments: Moments) -> Callback:
    return _After(moments)


def only_run(folder: Path) -> Path:
    """The one run directory below ``folder``."""
    (run,) = (folder / "runs").glob("*/version_*")
    return run


def load(run: Path, name: str) -> dict[str, Any]:
    return torch.load(run / "checkpoints" / f"{name}.ckpt", map_location="cpu", weights_only=True)


def assert_same_runs(ours: Path, theirs: Path) -> None:
    """Bit for bit: weights and all that a checkpoint holds, the rows of metrics.csv, the curves of TensorBoard."""
    assert read_metrics(ours) == read_metrics(theirs)
    assert curves(ours) == curves(theirs)
    for name in ("last", "best"):
        one, two = load(ours, name), load(theirs, name)
        for content in (one, two):
            del content["config"], content["hyper_parameters"]  # where the run lies
            for name in CLOCKED:
                content["callbacks"]["LoggedSoFar"]["row"].pop(name, None)
            del content["callbacks"]["LoggedSoFar"]["sizes"]  # names of files hold the number of a process
        assert_identical(one, two, name)


def assert_identical(ours: Any, theirs: Any, where: str = "") -> None:
    """Bit for bit, through all of a checkpoint; a NaN is a NaN."""
    assert type(ours) is type(theirs), where
    if isinstance(ours, torch.Tensor):
        assert ours.dtype == theirs.dtype, where
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True, msg=where)
    elif isinstance(ours, dict):
        assert ours.keys() == theirs.keys(), where
        for key, value in ours.items():
            assert_identical(value, theirs[key], f"{where}.{key}")
    elif isinstance(ours, (list, tuple)):
        assert len(ours) == len(theirs), where
        for index, value in enumerate(ours):
            assert_identical(value, theirs[index], f"{where}[{index}]")
    else:
        assert repr(ours) == repr(theirs), where
