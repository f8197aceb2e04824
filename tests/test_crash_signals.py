"""Where a request to end may be granted, and what is left of a run that ends before its first step."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback

import cli.app
from callbacks.checkpoint_files import CheckpointFolder
from cli import main
from datamodules.workers import leave_signals_to_parent
from tests.crashes import load, only_run
from tests.fitting import CONFIG, SMALL, options, write_pictures


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("signals"), {"train": 10, "val": 8})


class AskOnce(Callback):
    """Sends this process a signal, the first time that a hook is called.

    Args:
        hook: Its name.
        number: The signal.
    """

    def __init__(self, hook: str, number: signal.Signals) -> None:
        self.asked = False
        self.number = number
        setattr(self, hook, self._ask)

    def _ask(self, trainer: Any, *args: Any, **kwargs: Any) -> None:
        if not self.asked and not trainer.sanity_checking:
            self.asked = True
            os.kill(os.getpid(), self.number)


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Runs a fit that asks itself to end at a hook; returns the exit code."""
    monkeypatch.chdir(tmp_path)

    def run(data: Path, hook: str, number: signal.Signals, *flags: str) -> int:
        build = cli.app.trainer_arguments

        def with_request(*args: Any, **kwargs: Any) -> dict[str, Any]:
            arguments = build(*args, **kwargs)
            return {**arguments, "callbacks": [*arguments["callbacks"], AskOnce(hook, number)]}

        monkeypatch.setattr(cli.app, "trainer_arguments", with_request)
        return main(["fit", f"--config={CONFIG}", *SMALL, f"--data.root={data}", options(), *flags])

    return run


@pytest.mark.parametrize("hook", ["on_validation_start", "on_validation_batch_start"])
def test_a_validation_between_two_micro_batches_is_no_place_to_end(
    stopped: Any, data: Path, tmp_path: Path, hook: str
) -> None:
    """The gradient of the first half of the step would be lost: the second half is waited for."""
    flags = ("--training.accumulate=2", "--trainer.val_check_interval=1")
    assert stopped(data, hook, signal.SIGTERM, *flags) == 143
    state = load(only_run(tmp_path), "last")
    assert state["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]["completed"] == 2
    assert state["global_step"] == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_before_the_first_step_nothing_is_left(
    stopped: Any,
    data: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    number: signal.Signals,
    code: int,
) -> None:
    assert stopped(data, "on_train_start", number, "--training.tensorboard=true") == code
    assert "stopped; nothing was saved yet" in capfd.readouterr().out
    assert not (tmp_path / "runs").exists()


def test_a_worker_ends_by_its_parent_alone() -> None:
    """Ctrl-C and SIGTERM of the whole group are not for it; multiprocessing's end at the exit is, or the exit waits."""
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    worker = context.Process(target=_wait, args=(ready,), daemon=True)
    worker.start()
    assert ready.wait(20) and worker.pid is not None
    for name in ("INT", "TERM"):
        subprocess.run(
            ["sh", "-c", f"kill -{name} {worker.pid}"], check=True
        )  # another sender than the parent
    worker.join(0.3)
    assert worker.is_alive()
    worker.terminate()
    worker.join(20)
    assert worker.exitcode == 0


def _wait(ready: Any) -> None:
    leave_signals_to_parent(0)
    ready.set()
    time.sleep(60)


def test_pruning_keeps_what_was_written_last(tmp_path: Path) -> None:
    """Where a run went on from step 4, those of its first part have higher numbers."""
    for second, step in enumerate([16, 20, 8]):
        path = tmp_path / f"step_{step:08d}.ckpt"
        path.touch()
        os.utime(path, (second, second))
    CheckpointFolder(tmp_path).prune_steps(2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_00000008.ckpt", "step_00000020.ckpt"]


def test_what_ended_a_run_by_steps_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], data: Path, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [*SMALL, f"--data.root={data}", options(), "--trainer.max_steps=2"]
    assert main(["fit", f"--config={CONFIG}", *words]) == 0
    assert main(["fit", f"--config={only_run(tmp_path) / 'config.yaml'}", "--ckpt_path=last"]) == 0
    assert "there was nothing left to train; give a larger trainer.max_steps" in capsys.readouterr().out
