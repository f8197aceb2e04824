"""How many worker processes a loader gets."""

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
import torch

import datamodules.workers
from callbacks import ComputeThreads
from datamodules import Loader
from datamodules.workers import count_workers, threads_beside_workers, usable_cores

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
    ("cores", "processes", "expected"), [(1, 1, 0), (2, 1, 1), (8, 1, 7), (64, 1, 16), (8, 4, 1), (4, 8, 0)]
)
def test_auto_leaves_each_training_process_a_core(
    monkeypatch: pytest.MonkeyPatch, cores: int, processes: int, expected: int
) -> None:
    monkeypatch.setattr(datamodules.workers, "usable_cores", lambda: cores)
    assert count_workers("auto", processes=processes) == expected
    assert count_workers(5, processes=processes) == 5


@pytest.mark.parametrize(
    ("cores", "processes", "torchs", "asked", "threads", "workers"),
    [
        (1, 1, 1, "auto", 1, 0),
        (2, 1, 2, "auto", 2, 0),
        (2, 1, 1, "auto", 1, 1),  # OMP_NUM_THREADS=1
        (16, 1, 16, "auto", 14, 2),
        (16, 1, 4, "auto", 4, 4),  # no more than there are threads
        (16, 4, 4, "auto", 3, 1),
        (16, 1, 16, 5, 11, 5),
        (8, 1, 8, 0, 8, 0),
        (4, 1, 64, "auto", 3, 1),  # a container that may use four cores of 64
        (2, 1, 2, 7, 1, 7),  # asked for
    ],
)
def test_threads_and_workers_share_the_cores_of_a_cpu(
    monkeypatch: pytest.MonkeyPatch,
    cores: int,
    processes: int,
    torchs: int,
    asked: int | Literal["auto"],
    threads: int,
    workers: int,
) -> None:
    """And the number of workers is the same before and after the threads were set."""
    monkeypatch.setattr(datamodules.workers, "usable_cores", lambda: cores)
    now = [torchs]
    monkeypatch.setattr(torch, "get_num_threads", lambda: now[0])
    trainer: Any = SimpleNamespace(num_devices=processes)
    assert count_workers(asked, processes=processes, on_cpu=True) == workers
    now[0] = threads_beside_workers(Loader(num_workers=asked), trainer)
    assert now[0] == threads
    assert count_workers(asked, processes=processes, on_cpu=True) == workers


@pytest.mark.parametrize("fails", [False, True])
def test_threads_are_as_they_were_after_a_run(fails: bool) -> None:
    before = torch.get_num_threads()
    threads = ComputeThreads(lambda loader, trainer: before + 1)
    trainer: Any = SimpleNamespace(
        strategy=SimpleNamespace(root_device=torch.device("cpu")), datamodule=SimpleNamespace(loader=Loader())
    )
    module: Any = None
    threads.setup(trainer, module, "fit")
    assert torch.get_num_threads() == before + 1
    if fails:
        threads.on_exception(trainer, module, KeyboardInterrupt())
    else:
        threads.teardown(trainer, module, "fit")
    assert torch.get_num_threads() == before


def test_a_fit_computes_with_the_threads_that_workers_leave(tmp_path: Path) -> None:
    """A process without OMP_NUM_THREADS, as users have it: more than its cores would wait for each other."""
    cores = usable_cores()
    if cores < 2:
        pytest.skip("one core: there is nothing to share")
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    words = [
        f"--config={ROOT / 'configs' / 'cls_mobilenetv3.yaml'}",
        "--model.backbone=lcnet_035",
        "--model.weights=null",
        "--data.image_size=32",
        "--data.dataset=shapes",
        "--data.loader.num_workers=1",
        "--training.epochs=1",
        "--trainer.accelerator=cpu",
        "--trainer.limit_train_batches=2",
        "--trainer.limit_val_batches=1",
        "--training.tensorboard=false",
        "--training.monitor=train/loss",
    ]
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), "fit", *words],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = re.search(r"1 x cpu \((\d+) thread", done.stdout)
    assert told is not None and int(told[1]) <= cores - 1, done.stdout


@pytest.mark.parametrize(
    ("quota", "expected"), [("max 100000", 4), ("150000 100000", 1), ("50000 100000", 1), ("", 4)]
)
def test_usable_cores_respects_affinity_and_quota(
    monkeypatch: pytest.MonkeyPatch, quota: str, expected: int
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(Path, "read_text", lambda _: quota)
    assert usable_cores() == expected
