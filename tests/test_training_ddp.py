"""Two processes train what one would: samples, losses, scores and weights."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from cli import main
from tests.fitting import CONFIG, ROOT, SMALL, options, read_metrics, write_pictures

FLAGS = (
    "--training.epochs=2",
    "--training.batch_size=4",
    "--training.learning_rate=0.01",
    "--training.loss=dice",
    "--training.tensorboard={enabled: true, histogram_freq: 1, write_graph: true}",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine pictures to train on and five to validate: the last batch of each is one picture, nothing for process 1."""
    return write_pictures(tmp_path_factory.mktemp("ddp"), {"train": 9, "val": 5, "test": 3}, void=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run(
    folder: Path, data: Path, *flags: str, processes: int, command: str = "fit", config: Path = CONFIG
) -> str:
    words = [command, f"--config={config}"]
    if config == CONFIG:
        words += [*SMALL, f"--data.root={data}", options("group")]
    words += [*flags, f"--trainer.devices={processes}"]
    folder.mkdir(exist_ok=True)
    if processes == 1:  # here and now: starting Python with torch takes longer than the run
        printed = io.StringIO()
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
            patch.chdir(folder)
            assert main(words) == 0
        return printed.getvalue()
    words.append("--trainer.strategy=ddp")
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "MASTER_PORT": str(free_port()),
        "PYTHONPATH": str(ROOT),
    }
    program = [sys.executable, str(ROOT / "train.py")]
    done = subprocess.run(
        [*program, *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    return done.stdout


def only_run(folder: Path) -> Path:
    (version,) = (folder / "runs" / "seg_unet").iterdir()
    return version


def checkpoint(folder: Path, name: str = "last") -> dict[str, Any]:
    return torch.load(
        only_run(folder) / "checkpoints" / f"{name}.ckpt", map_location="cpu", weights_only=True
    )


def assert_same_run(one: Path, two: Path, tolerance: float) -> None:
    alone, shared = read_metrics(only_run(one)), read_metrics(only_run(two))
    assert [row.keys() for row in alone] == [row.keys() for row in shared]
    for ours, theirs in zip(alone, shared, strict=True):
        for name, value in ours.items():
            # The file holds eight digits.
            assert float(theirs[name]) == pytest.approx(
                float(value), rel=max(tolerance, 2e-7), abs=tolerance
            ), name
    for name in ("last", "best"):
        ours, theirs = checkpoint(one, name), checkpoint(two, name)
        assert (ours["epoch"], ours["global_step"]) == (theirs["epoch"], theirs["global_step"])
        assert ours["state_dict"].keys() == theirs["state_dict"].keys()
        for key, value in ours["state_dict"].items():
            torch.testing.assert_close(
                theirs["state_dict"][key], value, rtol=0, atol=tolerance, msg=lambda m, k=key: f"{k}: {m}"
            )


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, data: Path) -> tuple[Path, Path, str]:
    """The same run in float64, on one process and on two, and what the two printed."""
    folder = tmp_path_factory.mktemp("pair")
    exact = (*FLAGS, "--trainer.precision=64-true", "--training.ema={enabled: true, decay: 0.5}")
    run(folder / "one", data, *exact, processes=1)
    printed = run(folder / "two", data, *exact, processes=2)
    return folder / "one", folder / "two", printed


def test_two_processes_train_the_same_weights(pair: tuple[Path, Path, str]) -> None:
    one, two, _ = pair
    weight = checkpoint(one)["state_dict"]["model.network.head.weight"]
    assert weight.dtype == torch.float64
    assert checkpoint(one)["global_step"] == 6
    assert_same_run(one, two, 1e-10)


def test_one_folder_one_row_an_epoch_one_summary(pair: tuple[Path, Path, str]) -> None:
    _, two, printed = pair
    run = only_run(two)
    assert [row["epoch"] for row in read_metrics(run)] == ["0", "1"]
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == [
        "best.ckpt",
        "last.ckpt",
        "previous.ckpt",
    ]
    for part in ("", "train", "val"):
        assert len(list((run / "tensorboard" / part).glob("events.*"))) == 1, part
    assert not [path for path in run.rglob(".*") if path.is_file()], "no temporary file stays"
    for line in ("epoch 1/2", "epoch 2/2", "  predict  ", "model: SegmentationModule"):
        assert printed.count(line) == 1, line


@pytest.mark.slow  # test_distributed_*.py has the same by default
def test_test_scores_count_each_picture_once(pair: tuple[Path, Path, str], data: Path) -> None:
    """Three pictures in batches of four: each process has a share, and the last one is not counted twice."""
    one, two, _ = pair
    tables: list[list[str]] = []
    for folder, processes in ((one, 1), (two, 2)):
        config = only_run(folder) / "config.yaml"
        flags = ("--ckpt_path=best", "--trainer.strategy=auto") if processes == 1 else ("--ckpt_path=best",)
        printed = run(folder, data, *flags, processes=processes, command="test", config=config)
        tables.append([line for line in printed.splitlines() if "test/" in line])
    assert len(tables[0]) == 5
    assert tables[0] == tables[1]


def test_micro_batches_and_a_backbone_that_thaws(tmp_path: Path, data: Path) -> None:
    """DistributedDataParallel looks once at what is trained; what is frozen then must still be averaged later.

    The last micro-batches of an epoch are one picture for three of four shares, and none.
    """
    thaw = ("--model.freeze_backbone=true", "--model.unfreeze_epoch=1")
    cut = ("--training.loss=categorical_crossentropy", "--training.accumulate=2")
    flags = (*FLAGS, *thaw, *cut, "--trainer.precision=64-true")
    run(tmp_path / "one", data, *flags, processes=1)
    run(tmp_path / "two", data, *flags, processes=2)
    assert_same_run(tmp_path / "one", tmp_path / "two", 1e-10)
