"""Vertex AI's folders: all that belongs there arrives, what is wrong is told at once, and a preempted job goes on."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import pytest
from lightning.pytorch import Callback

import cli.vertex
from callbacks.remote_folder import try_folder
from callbacks.run_directory import RunDirectory
from callbacks.uploads import Uploads
from cli import main
from cli.vertex import opening_lines, vertex_targets
from errors import LoupeError
from tests import processes
from tests.boards import curves
from tests.fitting import CONFIG, SMALL, Fitter, options, read_metrics, write_pictures
from tests.launched import Job, run_together
from tests.vertex import VARIABLES, fetch, files_of, set_places

BOARD = (
    "--training.tensorboard=true",
    "--training.tensorboard.write_graph=false",
    "--training.pictures=0",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures"), {"train": 8, "val": 4})


@pytest.fixture
def fitter(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Fitter:
    return Fitter(monkeypatch, capsys, tmp_path)


@pytest.fixture
def memory() -> Any:
    system = fsspec.filesystem("memory")
    system.store.clear()
    yield system
    system.store.clear()


def words(data: Path, *flags: str) -> list[str]:
    return ["fit", f"--config={CONFIG}", *SMALL, f"--data.root={data}", options("group"), *BOARD, *flags]


@pytest.mark.parametrize("kind", ["memory", "folder", "mount"])
def test_all_that_a_fit_wrote_arrives(
    kind: str, data: Path, fitter: Fitter, monkeypatch: pytest.MonkeyPatch, memory: Any, tmp_path: Path
) -> None:
    base = {"memory": "memory://bucket/job", "folder": str(tmp_path / "job"), "mount": "gs://bucket/job"}[
        kind
    ]
    (tmp_path / "gcs" / "bucket").mkdir(parents=True)
    monkeypatch.setattr(cli.vertex, "GCS_MOUNT", tmp_path / "gcs")
    set_places(monkeypatch, base)

    fit = fitter(data, *BOARD, "--training.epochs=2", norm="group")

    there = {"memory": tmp_path / "there", "folder": tmp_path / "job", "mount": tmp_path / "gcs/bucket/job"}[
        kind
    ]
    if kind == "memory":
        fetch(base, there)
    points = curves(fit.run)
    assert curves(there) == points
    assert len(points["val:scores/iou"]) == 2 and len(points["train:loss/epoch"]) == 2
    assert files_of(there / "tensorboard") == files_of(fit.run / "tensorboard")
    sent = files_of(there / "checkpoints")
    for name in ("last.ckpt", "best.ckpt", "previous.ckpt"):
        assert sent[name] == (fit.run / "checkpoints" / name).read_bytes()
    assert sent["metrics.csv"] == (fit.run / "metrics.csv").read_bytes()
    model = files_of(there / "model")
    assert model["best.ckpt"] == sent["best.ckpt"] and model["config.yaml"] == sent["config.yaml"]
    assert not [name for name in files_of(there) if Path(name).name.startswith(".")], "nothing half sent"
    as_told = f"vertex: event files to {base}/tensorboard"
    assert as_told in fit.printed and "after each epoch" in fit.printed
    assert f"uploaded to {base}/model" in fit.printed


def test_nothing_is_done_where_nothing_is_set(data: Path, fitter: Fitter) -> None:
    fit = fitter(data)
    assert "vertex:" not in fit.printed and not (fit.run / "uploaded.json").exists()


class Fail(Callback):
    """The machine's end, as the program sees it, in the second epoch."""

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        if trainer.current_epoch == 1:
            raise RuntimeError("the machine is gone")


def test_a_job_that_was_cut_off_goes_on_in_an_empty_container(
    data: Path, fitter: Fitter, monkeypatch: pytest.MonkeyPatch, memory: Any, tmp_path: Path
) -> None:
    whole = fitter(data, *BOARD, "--training.epochs=3", norm="group")
    shutil.move(whole.run, tmp_path / "whole")
    base = "memory://bucket/job"
    memory.pipe(f"{base}/tensorboard/events.out.tfevents.1.another.1.0", b"of another job")
    set_places(monkeypatch, base)
    flags = (*BOARD, "--training.epochs=3", "--ckpt_path=last")

    with pytest.raises(RuntimeError, match="machine is gone"):
        fitter(data, *flags, norm="group", callbacks=(Fail(),))
    begun = fitter.capsys.readouterr().out
    assert f"nothing to go on from in {base}/checkpoints yet; a new run begins" in begun
    shutil.rmtree("runs")
    fit = fitter(data, *flags, norm="group")

    assert f"last.ckpt and its run fetched from {base}/checkpoints" in fit.printed
    assert fit.rows == read_metrics(tmp_path / "whole"), "each epoch once, with the same scores"
    for name in ("tensorboard/events.out.tfevents.1.another.1.0",):
        assert memory.cat(f"{base}/{name}") == b"of another job"
        memory.rm_file(f"{base}/{name}")
    there = fetch(base, tmp_path / "there")
    assert curves(there) == curves(fit.run)
    scalars = {tag: points for tag, points in curves(tmp_path / "whole").items() if "histogram" not in tag}
    assert {tag: curves(there)[tag] for tag in scalars} == scalars, "each point once, also of the part before"


def test_with_nothing_there_only_a_fit_begins_anew(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    set_places(monkeypatch, str(tmp_path / "job"))
    tested = ["test", f"--config={CONFIG}", f"--data.root={data}", options("group"), "--ckpt_path=last"]
    assert main(tested) == 2
    assert "there is no run with checkpoints" in capsys.readouterr().err


def test_a_place_that_cannot_be_read_is_no_reason_to_begin_anew(
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    memory: Any,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    set_places(monkeypatch, "memory://bucket/job")

    def away(*args: Any, **kwargs: Any) -> Any:
        raise OSError("no route to host")

    monkeypatch.setattr(type(memory), "info", away)
    assert main(words(data, "--ckpt_path=last")) == 2
    assert "AIP_CHECKPOINT_DIR (memory://bucket/job/checkpoints) cannot be read" in capsys.readouterr().err
    assert not Path("runs").exists()


def test_an_earlier_run_in_the_place_is_told_of(
    data: Path, fitter: Fitter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    set_places(monkeypatch, str(tmp_path / "job"))
    fitter(data)
    assert "holds last.ckpt of an earlier run, which this one will replace" in fitter(data).printed


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("gs://", "names no bucket; give gs://BUCKET/FOLDER"),
        ("nosuch://bucket/x", "Protocol not known: nosuch"),
        ("{file}/x", "cannot be written to: NotADirectoryError"),
        ("gs://bucket/x", 'pip install "loupe-vision[gcs]"'),
    ],
)
def test_a_wrong_place_is_told_before_the_first_step(
    address: str,
    message: str,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("AIP_CHECKPOINT_DIR", address.format(file=tmp_path / "file"))
    monkeypatch.setitem(sys.modules, "gcsfs", None)  # as if it were not installed
    monkeypatch.delitem(
        sys.modules["fsspec.registry"]._registry, "gs", raising=False
    )  # fsspec.registry is a mapping
    assert main(words(data)) == 2
    assert message in capsys.readouterr().err
    assert not Path("runs").exists()


def test_what_will_be_done_is_one_line() -> None:
    base = "memory://bucket/job"
    targets = vertex_targets({name: f"{base}/{folder}/" for name, folder in VARIABLES.items()})
    run = RunDirectory(Path("runs/x"), existing=None, config="")
    assert opening_lines(Uploads(run, targets)) == [
        f"vertex: event files to {base}/tensorboard, checkpoints to {base}/checkpoints, every 60 s and after each "
        f"epoch, the model to {base}/model at the end"
    ]


def _with_places(base: str) -> None:
    os.environ.update({variable: f"{base}/{name}" for variable, name in VARIABLES.items()})


def test_sigterm_sends_the_state_before_the_end(data: Path, tmp_path: Path) -> None:
    process = processes.start(
        words(data, "--training.epochs=1000"), tmp_path, partial(_with_places, str(tmp_path / "job"))
    )
    until = time.monotonic() + 120
    while "epoch 2/" not in processes.printed(tmp_path) and process.is_alive():
        assert time.monotonic() < until
        time.sleep(0.05)
    assert process.pid is not None, processes.printed(tmp_path)
    os.kill(process.pid, signal.SIGTERM)
    asked = time.monotonic()
    process.join(60)
    assert process.exitcode == 143, processes.printed(tmp_path)
    assert time.monotonic() - asked < 25, "Vertex AI kills it after 30 s"
    run, there = tmp_path / "runs/seg_unet/version_0", tmp_path / "job"
    assert (there / "checkpoints/last.ckpt").read_bytes() == (run / "checkpoints/last.ckpt").read_bytes()
    assert files_of(there / "tensorboard") == files_of(run / "tensorboard")
    assert not (there / "model" / "best.ckpt").exists(), "it is not trained yet"


@pytest.mark.slow
def test_of_two_processes_one_sends(data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _ = [monkeypatch.setenv(variable, str(tmp_path / "job" / name)) for variable, name in VARIABLES.items()]
    flags = ["--trainer.sync_batchnorm=false", "--ckpt_path=last"]
    job = Job(words(data, *flags), [str(tmp_path / "here")])
    elsewhere = Job(words(data, *flags, "--training.epochs=2"), [str(tmp_path / "there")])
    first, second = run_together(tmp_path / "results", [job, elsewhere], world=2, starter="torchrun")
    for outcomes, line in ((first, "nothing to go on from"), (second, "last.ckpt and its run fetched")):
        assert [outcome.code for outcome in outcomes] == [0, 0], outcomes
        assert [outcome.out.count("uploaded to") for outcome in outcomes] == [3, 0]
        assert [line in outcome.out for outcome in outcomes] == [True, False]
    run = tmp_path / "there/runs/seg_unet/version_0"
    assert [row["epoch"] for row in read_metrics(run)] == ["0", "1"]
    assert files_of(tmp_path / "job/tensorboard") == files_of(run / "tensorboard")
    assert sorted(p.name for p in run.parent.iterdir()) == ["version_0"]


def test_a_slow_network_is_told_and_no_error(monkeypatch: pytest.MonkeyPatch, memory: Any) -> None:
    folder = vertex_targets({"AIP_MODEL_DIR": "memory://bucket/model"})[0].folder
    assert try_folder(folder) == ""
    monkeypatch.setattr(type(memory), "put_file", lambda *args, **kwargs: time.sleep(1))
    assert "no answer from memory://bucket/model within 0 s" in try_folder(folder, within_s=0.1)
    monkeypatch.setattr(type(memory), "put_file", _raise(ConnectionResetError("reset by peer")))
    assert "reset by peer" in try_folder(folder)
    monkeypatch.setattr(type(memory), "put_file", _raise(PermissionError("not yours")))
    with pytest.raises(
        LoupeError, match=r"memory://bucket/model cannot be written to: PermissionError: not yours"
    ):
        try_folder(folder)


def _raise(error: Exception) -> Any:
    def raising(*args: Any, **kwargs: Any) -> None:
        raise error

    return raising
