"""Two processes are stopped and go on: all after the same step, whichever of them was asked."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.crashes import assert_same_runs, load, only_run
from tests.fitting import CONFIG, ROOT, SMALL, options, write_pictures
from tests.test_training_ddp import free_port

pytestmark = pytest.mark.slow

SETTINGS = (
    f"--config={CONFIG}",
    *SMALL,
    options("group"),
    "--training.epochs=3",
    "--training.learning_rate=0.01",
    "--training.accumulate=2",
    "--training.batch_size=4",
    "--training.tensorboard={enabled: true, update_freq: batch}",
    "--data.augment.preset=medium",
)


def train(folder: Path, *words: str) -> tuple[int, str]:
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [
            sys.executable,
            str(ROOT / "train.py"),
            "fit",
            *words,
            "--trainer.devices=2",
            "--trainer.strategy=ddp",
        ],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MASTER_PORT": str(free_port()), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def signal_at(step: int, rank: int, number: int) -> tuple[str, ...]:
    return (
        "--trainer.callbacks+=tests.crashes.SignalAt",
        f"--trainer.callbacks.step={step}",
        f"--trainer.callbacks.rank={rank}",
        f"--trainer.callbacks.number={number}",
    )


@pytest.mark.parametrize(
    ("step", "rank", "number", "code"),
    [
        pytest.param(4, 1, 15, 143, id="the-second-alone-between-steps"),
        pytest.param(6, 0, 2, 130, id="the-first-before-a-validation"),
    ],
)
def test_both_stop_after_one_step_and_go_on(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, step: int, rank: int, number: int, code: int
) -> None:
    data = write_pictures(tmp_path / "data", {"train": 10, "val": 5}, void=True)
    straight, printed = train(
        tmp_path / "straight", *SETTINGS, f"--data.root={data}", *signal_at(0, rank, number)
    )
    assert straight == 0, printed[-3000:]
    stopped, printed = train(
        tmp_path / "stopped", *SETTINGS, f"--data.root={data}", *signal_at(step, rank, number)
    )
    # The process that was not asked knows of a request, not of which signal.
    assert stopped == (code if rank == 0 else 143), printed[-3000:]
    assert "Traceback" not in printed, printed[-3000:]
    run = only_run(tmp_path / "stopped")
    assert load(run, "last")["global_step"] == step
    done, printed = train(tmp_path / "stopped", f"--config={run / 'config.yaml'}", "--ckpt_path=last")
    assert done == 0, printed[-3000:]
    assert_same_runs(run, only_run(tmp_path / "straight"))
