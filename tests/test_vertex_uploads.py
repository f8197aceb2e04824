"""Uploads that fail, hang or are slow: the training neither waits nor ends, and what is there is whole and its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lightning.pytorch import Callback

import callbacks.uploads
from callbacks.remote_folder import open_folder
from callbacks.run_directory import RunDirectory
from callbacks.upload_record import UploadRecord, read_record, stamp, unchanging
from callbacks.upload_target import Target
from cli.vertex import vertex_targets
from tests.fitting import Fitter, write_pictures
from tests.vertex import VARIABLES, Quick, Trouble, set_places, stored, trouble

__all__ = ["trouble"]

BASE = "trouble://job"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures"), {"train": 8, "val": 4})


@pytest.fixture
def fitter(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Fitter:
    set_places(monkeypatch, BASE)
    monkeypatch.setattr(callbacks.uploads, "_FIRST_S", 0.05)
    return Fitter(monkeypatch, capsys, tmp_path)


class Times:
    """Fails the first uploads, as many as it is told."""

    def __init__(self, count: int) -> None:
        self.left = count

    def __call__(self, name: str) -> None:
        self.left -= 1
        if self.left >= 0:
            raise ConnectionResetError("reset by peer")


# --- in a fit ---


def test_a_network_that_comes_back(data: Path, fitter: Fitter, trouble: type[Trouble]) -> None:
    trouble.behave = Times(5)
    fit = fitter(data, "--training.epochs=2")
    out = fit.printed
    assert out.count("failed: ConnectionResetError: reset by peer; not there yet: ") == 1, "told once"
    assert out.count("note: uploads to trouble://job/checkpoints work again") == 1
    assert stored("checkpoints/last.ckpt") == (fit.run / "checkpoints/last.ckpt").read_bytes()
    assert stored("model/best.ckpt") == (fit.run / "checkpoints/best.ckpt").read_bytes()


def test_a_network_that_stays_away(data: Path, fitter: Fitter, trouble: type[Trouble]) -> None:
    trouble.behave = Times(10**9)
    fit = fitter(data, "--training.epochs=2")
    assert len(fit.rows) == 2, "the training is whole"
    assert fit.printed.count("upload to trouble://job/checkpoints failed") == 1
    assert (
        "warning: not in trouble://job/model: best.ckpt, config.yaml, metrics.csv and" in fit.printed
        and "(ConnectionResetError: reset by peer)" in fit.printed
    )
    assert "uploaded to" not in fit.printed


class AtTheEnd(Callback):
    """Lets go of what hangs, once the training is over."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.hanging = threading.Event()

    def hang(self, name: str) -> None:
        self.hanging.set()
        self.let_go.wait(60)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.current_epoch == 1:
            assert self.hanging.wait(20), "an upload is on its way from here to the end"

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        self.let_go.set()


def test_the_training_waits_for_no_upload(data: Path, fitter: Fitter, trouble: type[Trouble]) -> None:
    network = AtTheEnd()
    trouble.behave = network.hang
    fit = fitter(data, "--training.epochs=3", callbacks=(network,))
    assert len(fit.rows) == 3
    assert stored("checkpoints/last.ckpt") == (fit.run / "checkpoints/last.ckpt").read_bytes()


def test_the_end_waits_so_long_and_no_longer(
    data: Path, fitter: Fitter, trouble: type[Trouble], monkeypatch: pytest.MonkeyPatch
) -> None:
    let_go = threading.Event()
    trouble.behave = lambda name: let_go.wait(60)
    monkeypatch.setattr(callbacks.uploads, "_END_S", 0.3)
    try:
        fit = fitter(data)
    finally:
        let_go.set()
    assert "warning: not in trouble://job/checkpoints" in fit.printed
    assert "(there was no time left)" in fit.printed
    for thread in threading.enumerate():
        if thread.name == "uploads":
            thread.join(10)


# --- file by file ---


def begin(run: Path, **kwargs: Any) -> Quick:
    """Uploads of a run directory with the three places, begun as a fit begins them."""
    targets = vertex_targets({variable: f"{BASE}/{name}" for variable, name in VARIABLES.items()})
    uploads = Quick(RunDirectory(run.parent, existing=run, config=""), targets, **kwargs)
    trainer: Any = SimpleNamespace(fast_dev_run=False, is_global_zero=True, current_epoch=0)
    uploads.on_train_start(trainer, trainer)
    return uploads


@pytest.fixture
def run(tmp_path: Path) -> Path:
    run = tmp_path / "runs" / "x" / "version_0"
    (run / "checkpoints").mkdir(parents=True)
    (run / "tensorboard" / "val").mkdir(parents=True)
    (run / "config.yaml").write_text("a: 1\n")
    (run / "metrics.csv").write_text("epoch\n0\n")
    (run / "tensorboard" / "val" / "events.out.tfevents.1").write_bytes(b"point 1")
    save(run, "epoch 1", best=True)
    return run


def save(run: Path, content: str, *, best: bool = False) -> None:
    """As `CheckpointFolder.publish` leaves it: `previous` is the file that `last` was, `best` another name."""
    folder = run / "checkpoints"
    last, fresh = folder / "last.ckpt", folder / ".fresh.ckpt"
    fresh.write_text(content)
    if best:
        (folder / "best.ckpt").unlink(missing_ok=True)
        (folder / "best.ckpt").hardlink_to(fresh)
    if last.exists():
        last.replace(folder / "previous.ckpt")
    fresh.replace(last)


def names() -> set[str]:
    return {path.removeprefix("/job/") for path in Trouble.store}


def test_later_files_make_sense_with_those_that_are_there(run: Path, trouble: type[Trouble]) -> None:
    (run / "checkpoints" / "step_00000002.ckpt").write_text("step 2")
    begin(run, every_s=60).finish()
    assert trouble.order == [
        "uploaded.json",
        "events.out.tfevents.1",
        "config.yaml",
        "metrics.csv",
        "best.ckpt",
        "last.ckpt",
        "step_00000002.ckpt",
    ]
    assert "model/best.ckpt" not in names(), "the fit has not ended"


def test_a_file_of_two_names_is_sent_once(run: Path, trouble: type[Trouble]) -> None:
    sent: list[str] = []
    trouble.behave = sent.append
    begin(run).finish()
    save(run, "epoch 2")
    begin(run).finish()
    checkpoints = [name for name in sent if ".ckpt" in name]
    assert len(checkpoints) == 2, "epoch 1 for best and last, epoch 2 for last; previous was last there too"
    contents = [stored(f"checkpoints/{name}.ckpt") for name in ("last", "previous", "best")]
    assert contents == [b"epoch 2", b"epoch 1", b"epoch 1"]


def test_only_its_own_files_are_removed(run: Path, trouble: type[Trouble]) -> None:
    step = run / "checkpoints" / "step_00000002.ckpt"
    step.write_text("step 2")
    system = trouble()
    system.pipe_file("trouble://job/checkpoints/step_00000001.ckpt", b"of another run")
    system.pipe_file("trouble://job/tensorboard/val/events.out.tfevents.0", b"of another run")
    begin(run).finish()
    assert "checkpoints/step_00000002.ckpt" in names()
    step.unlink()
    begin(run).finish()  # also by a process that goes on with the run
    assert "checkpoints/step_00000002.ckpt" not in names()
    assert {"checkpoints/step_00000001.ckpt", "tensorboard/val/events.out.tfevents.0"} <= names()


def test_copies_do_not_go_with_the_disk(run: Path, trouble: type[Trouble]) -> None:
    begin(run).finish()
    there = names()
    uploads = begin(run)
    shutil.rmtree(run)
    uploads.finish()
    assert names() == there and "checkpoints/last.ckpt" in there


def test_an_upload_that_breaks_off_leaves_the_old_file(run: Path, trouble: type[Trouble]) -> None:
    begin(run).finish()
    save(run, "epoch 2")

    def breaks(name: str) -> None:
        if "last.ckpt" in name:
            trouble().pipe_file(f"{BASE}/checkpoints/{name}", b"epo")
            raise ConnectionResetError("half way")

    trouble.behave = breaks
    begin(run).finish()
    assert stored("checkpoints/last.ckpt") == b"epoch 1"
    assert stored("checkpoints/previous.ckpt") == b"epoch 1"
    trouble.behave = lambda name: None
    begin(run).finish()
    assert stored("checkpoints/last.ckpt") == b"epoch 2"


def test_one_file_that_cannot_be_sent_does_not_hold_up_the_others(run: Path, trouble: type[Trouble]) -> None:
    def refuse(name: str) -> None:
        if "metrics.csv" in name:
            raise OSError("a retention policy")

    trouble.behave = refuse
    begin(run).finish()
    assert "checkpoints/metrics.csv" not in names() and "checkpoints/last.ckpt" in names()


def test_each_epoch_is_sent_without_waiting_for_the_interval(
    run: Path, trouble: type[Trouble], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callbacks.uploads, "_BETWEEN_S", 0.05)
    monkeypatch.setattr(callbacks.uploads, "_FIRST_S", 3600)
    uploads = begin(run, every_s=3600)
    save(run, "epoch 2")
    trainer: Any = SimpleNamespace(current_epoch=1)
    uploads.on_train_epoch_start(trainer, trainer)
    until = time.monotonic() + 10
    while "checkpoints/last.ckpt" not in names():
        assert time.monotonic() < until
        time.sleep(0.01)
    assert stored("checkpoints/last.ckpt") == b"epoch 2"
    uploads.finish()


def test_finish_twice_is_finish_once(run: Path, trouble: type[Trouble], capsys: Any) -> None:
    uploads = begin(run)
    uploads.finish()
    uploads.finish()
    assert capsys.readouterr().out.count("uploaded to trouble://job/checkpoints: checkpoints, 4 files") == 1


def test_a_file_that_grows_is_sent_as_long_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "events.out.tfevents.1"
    path.write_bytes(b"one")
    with unchanging(path, tmp_path, grows=True) as source:
        with path.open("ab") as writer:
            writer.write(b" two")
        assert source is not None and source.read_bytes() == b"one"
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name]


def test_a_file_that_is_replaced_is_sent_whole(tmp_path: Path) -> None:
    path, fresh = tmp_path / "last.ckpt", tmp_path / "fresh"
    path.write_bytes(b"old")
    with unchanging(path, tmp_path, grows=False) as source:
        fresh.write_bytes(b"newer")
        fresh.replace(path)
        assert source is not None and source.read_bytes() == b"old"
    with unchanging(tmp_path / "pruned.ckpt", tmp_path, grows=False) as source:
        assert source is None


@pytest.mark.parametrize("content", ["", "[]", "{", '{"a": 3}', '{"a": {"b": [1]}}', "null"])
def test_a_spoilt_record_is_an_empty_one(content: str, tmp_path: Path) -> None:
    (tmp_path / "uploaded.json").write_text(content)
    assert read_record(tmp_path / "uploaded.json") == {}
    record = UploadRecord(tmp_path)
    record.announce("there", ["last.ckpt"])
    record.of("there")["best.ckpt"] = stamp(tmp_path / "uploaded.json")
    record.write()
    again = UploadRecord(tmp_path).of("there")
    assert again["last.ckpt"] is None and again["best.ckpt"] is not None


def test_a_record_from_elsewhere_names_nothing_outside(tmp_path: Path) -> None:
    names = ["last.ckpt", "../pwn.txt", "/etc/x", "a/../../b", "evaluation/val.npz", "..\\x"]
    path = tmp_path / "uploaded.json"
    path.write_text(json.dumps({"gs://b/c": {name: [1, 2, 3] for name in names}}))
    assert list(read_record(path)["gs://b/c"]) == ["last.ckpt", "evaluation/val.npz"]


def test_the_command_by_hand_copies_what_is_missing(tmp_path: Path) -> None:
    target = Target(open_folder(str(tmp_path / "there")), "the model", ("*",), "checkpoints", by_hand="cp")
    files = {"best.ckpt": tmp_path / "checkpoints/best.ckpt", "config.yaml": tmp_path / "config.yaml"}
    for path in files.values():
        path.parent.mkdir(exist_ok=True)
        path.write_text(path.name)
    (tmp_path / "there").mkdir()
    subprocess.run(target.by_hand_for(list(files), files), shell=True, check=True)
    assert {path.name: path.read_text() for path in (tmp_path / "there").iterdir()} == {n: n for n in files}
