"""``gs://`` against an object store's own protocol: a real client and a local server that speaks it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

import cli.vertex
from callbacks.uploads import Uploads
from cli import main
from tests.boards import curves
from tests.fitting import CONFIG, SMALL, Fitter, options, write_pictures
from tests.launched import free_port
from tests.vertex import fetch, files_of, set_places

pytest.importorskip("gcsfs")
pytest.importorskip("gcp_storage_emulator")

pytestmark = [
    # 2026-11: gcsfs 2026.10 sends what is below 5 MB in one piece, of which aiohttp 3.14 warns above 1 MB.
    # https://github.com/fsspec/gcsfs/blob/main/gcsfs/core.py (simple_upload)
    pytest.mark.filterwarnings("ignore:Sending a large body directly with raw bytes:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a server with one bucket, ``bucket``."""
    address = f"http://127.0.0.1:{(port := free_port())}"
    program = "from gcp_storage_emulator.__main__ import main; main()"
    words = ["start", "--host=127.0.0.1", f"--port={port}", "--in-memory", "--default-bucket=bucket"]
    process = subprocess.Popen(
        [sys.executable, "-c", program, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        until = time.monotonic() + 30
        while not _answers(address):
            assert time.monotonic() < until and process.poll() is None
            time.sleep(0.05)
        yield address
    finally:
        process.terminate()
        process.wait(10)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=2):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


@pytest.fixture
def storage(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server)
    # Asks the bucket for its kind by another protocol, which the server does not speak.
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    fsspec.filesystem("memory").clear_instance_cache()
    yield
    type(fsspec.filesystem("gs")).clear_instance_cache()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures"), {"train": 8, "val": 4})


class Patient(Uploads):
    """Uploads that begin at once, and wait after a failure as long as they do outside of tests."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"every_s": 0.2, **kwargs})


@pytest.mark.usefixtures("storage")
def test_a_job_in_a_bucket(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    base = "gs://bucket/jobs/1"
    set_places(monkeypatch, base)
    # a server on a busy machine may take longer than folders in memory do
    monkeypatch.setattr(cli.vertex, "Uploads", Patient)
    fitter = Fitter(monkeypatch, capsys, tmp_path)
    flags = ("--training.tensorboard=true", "--ckpt_path=last")
    first = fitter(data, *flags, "--training.epochs=1")
    assert "nothing to go on from in gs://bucket/jobs/1/checkpoints yet" in first.printed
    shutil.rmtree("runs")
    fit = fitter(data, *flags, "--training.epochs=2")
    assert "last.ckpt and its run fetched from gs://bucket/jobs/1/checkpoints" in fit.printed

    for ran in (first, fit):
        assert "warning" not in ran.printed, ran.printed
    there = fetch(base, tmp_path / "there")
    assert curves(there) == curves(fit.run)
    assert len(curves(there)["val:scores/iou"]) == 2, "both parts of the run"
    assert files_of(there / "tensorboard") == files_of(fit.run / "tensorboard")
    sent = files_of(there / "checkpoints")
    for name in ("last.ckpt", "best.ckpt", "previous.ckpt"):
        assert sent[name] == (fit.run / "checkpoints" / name).read_bytes()
    assert files_of(there / "model")["best.ckpt"] == sent["best.ckpt"]


@pytest.mark.usefixtures("storage")
def test_a_bucket_that_is_not_there(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    set_places(monkeypatch, "gs://another/jobs/1")
    assert main(["fit", f"--config={CONFIG}", *SMALL, f"--data.root={data}", options()]) == 2
    assert (
        "gs://another/jobs/1/tensorboard cannot be written to: FileNotFoundError" in capsys.readouterr().err
    )
    assert not Path("runs").exists() and "STORAGE_EMULATOR_HOST" in os.environ
